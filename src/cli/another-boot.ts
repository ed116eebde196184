import type { TagWatch } from '../translate/tag-watch.js'
import { formatU64 } from '../u64.js'
import { warn } from './io/stderr.js'

/** Watches whose warning has been printed: one is enough. */
const warned = new WeakSet<TagWatch>()

/**
 * Warns when an input is certainly of another boot than the layout. Returns whether it is.
 * @param name of the input, where there are several
 * @param soFar the input has not ended
 */
export function warnOfAnotherBoot(watch: TagWatch | undefined, name?: string, soFar = false): boolean {
  const found = watch?.verdict(soFar)
  if (watch === undefined || found === undefined) return false
  if (warned.has(watch)) return true
  warned.add(watch)
  const { others, own, complete, tagLsb } = found
  const text = (tag: bigint, tagVal: bigint) => `${formatU64(tag)} (tag_val ${formatU64(tagVal)})`
  const carry = own === 0 ? 'no address carries' : own === 1 ? '1 address carries' : `${own} addresses carry`
  const many = `${complete ? '' : 'at least '}${others} carry${others === 1 && complete ? 's' : ''}`
  warn(
    `${name === undefined ? '' : `${name}: `}the layout is of another boot: ${carry} its tag ${text(found.ownTag, found.ownTagVal)}; ${many} another${soFar ? ' so far' : ''}, mostly ${text(found.tag, found.tagVal)} above the layout's tag_lsb ${tagLsb}. Recover the layout from the evidence of that boot`,
  )
  return true
}
