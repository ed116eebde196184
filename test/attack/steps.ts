import { type AST, RegExpParser, visitRegExpAST } from '@eslint-community/regexpp'

/** What a backtracking engine does to match: tries of a piece of the pattern at a place of the text. */
export interface Steps {
  count: number
}

type Next = (at: number) => boolean
type Matcher = (at: number, next: Next) => boolean

/** Where counting ends: more than any pattern may take for the texts of the tests. */
export const MOST_STEPS = 3_000_000

class TooMany extends Error {}

/**
 * A pattern compiled for counting: the matcher of the language's specification, which tries alternatives in order and goes back
 * one by one. An engine may do less, where it looks for a fixed piece of the pattern first, but none does more.
 */
export class CountedPattern {
  private readonly steps: Steps
  readonly pattern: AST.Pattern
  private readonly flags: string
  private text = ''
  private readonly groups: AST.CapturingGroup[] = []
  private captures: (string | undefined)[] = []
  private readonly whole: Matcher

  constructor(source: string, flags: string, steps: Steps) {
    this.steps = steps
    this.flags = flags
    this.pattern = new RegExpParser().parsePattern(source, 0, source.length, flags.includes('u'))
    visitRegExpAST(this.pattern, { onCapturingGroupEnter: (group) => this.groups.push(group) })
    this.whole = this.any(this.pattern.alternatives)
  }

  /** Looks for one match from `start` on, or for all where `all` is set. */
  run(text: string, start = 0, all = false): void {
    this.text = text
    try {
      for (let at = start; at <= text.length; ) {
        let end = -1
        this.captures = []
        this.step()
        const found = this.whole(at, (place) => {
          end = place
          return true
        })
        if (found && !all) return
        if (!found && this.flags.includes('y')) return
        at = found && end > at ? end : at + 1
      }
    } catch (error) {
      if (!(error instanceof TooMany)) throw error
    }
  }

  private step(): void {
    if (++this.steps.count > MOST_STEPS) throw new TooMany()
  }

  private any(alternatives: readonly AST.Alternative[]): Matcher {
    const branches = alternatives.map(({ elements }) => this.sequence(elements))
    return (at, next) => branches.some((branch) => branch(at, next))
  }

  private sequence(elements: readonly AST.Element[]): Matcher {
    const matchers = elements.map((element) => this.element(element))
    return matchers.reduceRight<Matcher>(
      (rest, first) => (at, next) => first(at, (place) => rest(place, next)),
      (at, next) => next(at),
    )
  }

  private element(element: AST.Element): Matcher {
    switch (element.type) {
      case 'Quantifier':
        return this.quantifier(element)
      case 'Group':
        return this.any(element.alternatives)
      case 'CapturingGroup': {
        const inner = this.any(element.alternatives)
        const index = this.groups.indexOf(element) + 1
        return (at, next) =>
          inner(at, (place) => {
            const before = this.captures[index]
            this.captures[index] = this.text.slice(at, place)
            if (next(place)) return true
            this.captures[index] = before
            return false
          })
      }
      case 'Assertion':
        return this.assertion(element)
      case 'Backreference':
        return (at, next) => {
          this.step()
          const captured = this.captures[Number(element.ref)] ?? ''
          return this.text.startsWith(captured, at) && next(at + captured.length)
        }
      case 'Character':
      case 'CharacterSet':
      case 'CharacterClass': {
        const test = characterTest(element, this.flags)
        return (at, next) => {
          this.step()
          return at < this.text.length && test(this.text[at]!) && next(at + 1)
        }
      }
      default:
        throw new Error(`no model of ${element.type}`)
    }
  }

  private quantifier({ element, min, max, greedy }: AST.Quantifier): Matcher {
    const one = this.element(element)
    const repeat = (done: number, at: number, next: Next): boolean => {
      const more = () => done < max && one(at, (place) => (place > at || done < min) && repeat(done + 1, place, next))
      if (done < min) return more()
      return greedy ? more() || next(at) : next(at) || more()
    }
    return (at, next) => repeat(0, at, next)
  }

  private assertion(assertion: AST.Assertion): Matcher {
    const word = (at: number) => /\w/.test(this.text[at] ?? '')
    switch (assertion.kind) {
      case 'start':
        return (at, next) => at === 0 && next(at)
      case 'end':
        return (at, next) => at === this.text.length && next(at)
      case 'word':
        return (at, next) => (word(at - 1) !== word(at)) !== assertion.negate && next(at)
      case 'lookahead': {
        const inner = this.any(assertion.alternatives)
        return (at, next) => inner(at, () => true) !== assertion.negate && next(at)
      }
      case 'lookbehind': {
        // Of one character, which is all that there is.
        const inner = this.any(assertion.alternatives)
        return (at, next) => (at > 0 && inner(at - 1, (place) => place === at)) !== assertion.negate && next(at)
      }
    }
  }
}

type Piece = AST.Character | AST.CharacterSet | AST.CharacterClass

export function characterTest(piece: Piece, flags: string): (char: string) => boolean {
  const test = new RegExp(`^${piece.raw}$`, flags.replace(/[gy]/g, ''))
  return (char) => test.test(char)
}
