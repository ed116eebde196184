import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { recoverLayout } from '../../src/evidence/recover.js'
import { checkProposals, formatLayout, LAYOUT_NAMES, parseMachine } from '../../src/index.js'
import { bytesSource } from '../../src/source.js'

const SAMPLES = join(import.meta.dirname, '../../samples/machines')

describe('a layout that hypva wrote is evidence for all of it', () => {
  test.each(LAYOUT_NAMES)('%s', (name) => {
    for (const sample of ['corner', 'wide-16k', 'lx2160a']) {
      const machine = parseMachine(readFileSync(join(SAMPLES, `${sample}.json`), 'utf8'))
      const { layout } = checkProposals(machine, [name])[0]!
      const recovered = recoverLayout([bytesSource(`${sample}.json`, formatLayout(layout))])
      expect(recovered.conflicts).toEqual([])
      expect(recovered.layout).toEqual(layout)
      expect(Object.keys(recovered.unknown)).not.toContain('tagVal')
    }
  })
})
