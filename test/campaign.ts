// How much a test tries. `npm test` tries enough to meet a broken formula; `npm run test:campaigns` runs the same tests on more:
// longer random searches, every machine of a small address space, inputs of gigabytes.

/** Set by vitest.config.ts, in the mode `campaigns`. */
const CAMPAIGNS = process.env.HYPVA_CAMPAIGNS === '1'

/** A count, step or size: `small` in `npm test`, `large` in a campaign. */
export function runs(small: number, large: number): number {
  return CAMPAIGNS ? large : small
}
