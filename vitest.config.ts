import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { defineConfig } from 'vitest/config'
import { BaseSequencer, type TestSpecification } from 'vitest/node'

const read = (file: string) => readFileSync(file, 'utf8')

/** Files whose tests can try more than `npm test` has time for (test/campaign.ts). */
const campaigns = () =>
  readdirSync(join(import.meta.dirname, 'test'), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.test.ts') && /from '.*\/campaign\.ts'/.test(read(join('test', file))))
    .map((file) => `test/${file}`)

/**
 * Formulas first: a mistake in one shows within seconds. Tests that start processes follow, the long files before the short ones,
 * so that both cores have work until the end.
 */
class FormulasFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const order = (file: TestSpecification) => {
      const code = read(file.moduleId)
      return /child_process|\/hypva\.ts'/.test(code) ? 1e9 - code.length : code.length
    }
    return files.toSorted((a, b) => order(a) - order(b))
  }
}

export default defineConfig(({ mode }) => {
  const campaign = mode === 'campaigns'
  return {
    test: {
      include: campaign ? campaigns() : ['test/**/*.test.ts'],
      env: campaign ? { HYPVA_CAMPAIGNS: '1' } : {},
      testTimeout: campaign ? 1_200_000 : 120_000,
      hookTimeout: 120_000,
      // The default leaves one core to a watching editor: on two cores, half the machine.
      maxWorkers: '100%',
      sequence: { sequencer: FormulasFirst },
    },
  }
})
