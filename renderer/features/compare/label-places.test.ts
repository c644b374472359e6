import { describe, expect, test } from 'vitest'
import { placeLabels } from './label-places.ts'

const AREA = { width: 500, height: 200 }
const mark = (x: number, y: number, text: string, important = true) => ({ x, y, radius: 8, text, important })

describe('names of points', () => {
  test('stand beside their marks, towards the middle', () => {
    expect(placeLabels([mark(50, 100, 'left'), mark(450, 50, 'right')], AREA)).toEqual([
      { dx: 14, dy: 0, anchor: 'start', text: 'left' },
      { dx: -14, dy: 0, anchor: 'end', text: 'right' },
    ])
  })

  test('move out of each other’s way, the important ones first', () => {
    const [minor, major] = placeLabels([mark(100, 100, 'dominated', false), mark(104, 103, 'on the frontier')], AREA)
    expect(major).toEqual({ dx: 14, dy: 0, anchor: 'start', text: 'on the frontier' })
    expect(minor).toMatchObject({ dx: -14, dy: 0, anchor: 'end' })
  })

  test('are cut where long and left out where nothing is free', () => {
    const crowd = Array.from({ length: 12 }, (_, index) => mark(250 + index, 100, `The same long name of many words ${index}`))
    const places = placeLabels(crowd, AREA)
    expect(places[0]?.text).toBe('The same long name of man…')
    const shown = places.filter((place) => place !== null)
    expect(shown.length).toBeGreaterThan(3)
    expect(shown.length).toBeLessThan(12)
  })
})
