import fc from 'fast-check'
import { expect, test } from 'vitest'
import { LiveBytes, LiveChanges } from '../../../src/message-index/live-bytes.ts'

test('live bytes: agree with a list of messages, whatever comes and goes in whatever steps', () => {
  const step = fc.array(fc.record({ location: fc.nat(300_000), bytes: fc.nat(1000), stays: fc.boolean() }))
  fc.assert(
    fc.property(fc.array(step), fc.nat(300_000), fc.nat(300_000), (steps, one, other) => {
      const live = new LiveBytes()
      let messages: { location: number; bytes: number }[] = []
      for (const added of steps) {
        const changes = new LiveChanges()
        for (const { location, bytes } of messages) changes.remove(location, bytes)
        messages = added.filter(({ stays }) => stays)
        for (const { location, bytes } of added) changes.add(location, bytes)
        for (const { location, bytes, stays } of added) if (!stays) changes.remove(location, bytes)
        changes.applyTo(live)
      }
      const [from, to] = [Math.min(one, other), Math.max(one, other)]
      const bucketOf = (location: number) => Math.floor(location / 64)
      const within = messages.filter(({ location }) => {
        return bucketOf(location) >= bucketOf(from) && bucketOf(location) <= bucketOf(to)
      })
      expect(live.between(from, to)).toBe(within.reduce((sum, { bytes }) => sum + bytes + 29, 0))
      const first = messages
        .map(({ location }) => Math.max(1, bucketOf(location) * 64))
        .sort((a, b) => a - b)[0]
      expect(live.first).toBe(first)
    }),
  )
})
