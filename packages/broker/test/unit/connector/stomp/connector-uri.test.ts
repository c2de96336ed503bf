import { describe, expect, test } from 'vitest'
import { parseStompUri } from '../../../../src/connector/stomp/connector-uri.ts'
import { BrokerError } from '../../../../src/errors.ts'

describe('stomp connector URI', () => {
  test("ActiveMQ's shipped URI is understood", () => {
    expect(
      parseStompUri('stomp', 'stomp://0.0.0.0:61613?maximumConnections=7&wireFormat.maxFrameSize=2048'),
    ).toMatchObject({ host: '0.0.0.0', port: 61613, options: { maximumConnections: 7, maxFrameBytes: 2048 } })
  })

  test('defaults, port and IPv6', () => {
    expect(parseStompUri('s', 'stomp+nio://[::1]')).toEqual({
      host: '::1',
      port: 61613,
      options: {
        maximumConnections: 1000,
        maxFrameBytes: 104857600,
        connectTimeoutMs: 5000,
        heartBeat: { sendMs: 500, receiveMs: 10_000 },
        heartBeatGraceFactor: 2,
        maxSubscriptions: 1000,
        maxOutputBytes: 1048576,
      },
    })
    expect(parseStompUri('s', 'stomp://h:0?transport.defaultHeartBeat=5,0').options.heartBeat).toEqual({
      sendMs: 5,
      receiveMs: 0,
    })
  })

  test('anything else is refused and named', () => {
    for (const [uri, named] of [
      ['stomp://h:1?maximumConnection=1', 'unknown option maximumConnection'],
      ['stomp://h:1?maximumConnections=0', 'maximumConnections is a whole number from 1'],
      ['stomp://h:1?maximumConnections=1&maximumConnections=2', 'given twice'],
      ['stomp://h:1?wireFormat.maxFrameSize=100mb', 'wireFormat.maxFrameSize'],
      ['stomp://h:1?transport.defaultHeartBeat=5', 'transport.defaultHeartBeat'],
      ['stomp://h:1?transport.hbGracePeriodMultiplier=0.5', 'transport.hbGracePeriodMultiplier'],
      ['stomp+ssl://h:1', 'scheme stomp+ssl'],
      ['tcp://h:1', 'scheme tcp'],
      ['stomp://h:1/path', 'only host'],
      ['stomp://h:99999', 'expected stomp://'],
      ['nonsense', 'expected stomp://'],
    ] as const) {
      let error: unknown
      try {
        parseStompUri('front', uri)
      } catch (thrown) {
        error = thrown
      }
      expect(error).toBeInstanceOf(BrokerError)
      expect(error).toMatchObject({ code: 'BROKER_INVALID_CONFIGURATION' })
      expect((error as Error).message).toContain(named)
      expect((error as Error).message).toContain('front')
    }
  })
})
