import { expect, test } from 'vitest'
import { AdminAccess, type AdminRequest } from '../../../src/management/admin-access.ts'

const token = 'a-token-of-some-length'
const local: AdminRequest = {
  method: 'GET',
  peerAddress: '127.0.0.1',
  headers: { host: 'localhost:8161' },
}

/** The reason of the refusal, or `undefined` if it is obeyed. */
function refusal(access: AdminAccess, request: Partial<AdminRequest>, headers: AdminRequest['headers'] = {}) {
  try {
    access.check({ ...local, ...request, headers: { ...local.headers, ...headers } })
    return undefined
  } catch (error) {
    const { detail } = error as { detail: { reason?: string; part?: string } }
    return detail.reason ?? detail.part
  }
}

test.each<[string, string, string, string | undefined]>([
  ['127.0.0.1', '127.0.0.1', '127.0.0.1:8161', undefined],
  ['localhost', '127.0.0.9', 'localhost', undefined],
  ['::1', '::1', '[::1]:8161', undefined],
  ['127.0.0.1', '::ffff:127.0.0.1', '127.0.0.1', undefined],
  ['0.0.0.0', '127.0.0.1', '127.0.0.1:8161', 'place'],
  ['::', '::1', '[::1]:8161', 'place'],
  ['127.0.0.1', '10.0.0.7', '127.0.0.1:8161', 'place'],
  ['127.0.0.1', '127.0.0.1', 'rebound.example.org:8161', 'place'],
  ['127.0.0.1', '127.0.0.1', '', 'place'],
])(
  'admin: without a token, listening on %s, asked by %s for host %s: %s',
  (host, peerAddress, named, reason) => {
    expect(refusal(new AdminAccess(host, undefined), { peerAddress }, { host: named })).toBe(reason)
  },
)

test('admin: with a token everybody who knows it is obeyed, and nobody else', () => {
  const access = new AdminAccess('0.0.0.0', token)
  const from = (authorization: string | undefined) =>
    refusal(access, { peerAddress: '10.0.0.7' }, { host: 'broker:8161', authorization })
  expect(from(`Bearer ${token}`)).toBeUndefined()
  expect(from(`bearer ${token}`)).toBeUndefined()
  for (const wrong of [
    undefined,
    '',
    'Bearer',
    `Basic ${token}`,
    `Bearer ${token}x`,
    `Bearer ${token.slice(1)}`,
  ])
    expect(from(wrong)).toBe('token')
})

test('admin: with a token this machine needs it too', () => {
  expect(refusal(new AdminAccess('127.0.0.1', token), {})).toBe('token')
})

test.each<[AdminRequest['headers'], string | undefined]>([
  [{ origin: 'http://localhost:8161' }, undefined],
  [{ origin: 'http://localhost:8161', 'sec-fetch-site': 'same-origin' }, undefined],
  [{ origin: 'http://evil.example.org' }, 'origin'],
  [{ origin: 'http://localhost:3000' }, 'origin'],
  [{ origin: 'null' }, 'origin'],
  [{ 'sec-fetch-site': 'cross-site' }, 'origin'],
  [{ 'sec-fetch-site': 'same-site' }, 'origin'],
  [{ 'sec-fetch-site': 'none' }, undefined],
])('admin: a page cannot ask for it from another origin: %j is refused for %s', (headers, reason) => {
  expect(refusal(new AdminAccess('127.0.0.1', undefined), {}, headers)).toBe(reason)
  const authorization = `Bearer ${token}`
  expect(refusal(new AdminAccess('127.0.0.1', token), {}, { ...headers, authorization })).toBe(reason)
})

test.each([
  undefined,
  'text/plain',
  'application/x-www-form-urlencoded',
  'multipart/form-data',
  'application/jsonp',
])('admin: a change with content type %s is refused, as forms can send it', (type) => {
  const access = new AdminAccess('127.0.0.1', undefined)
  expect(refusal(access, { method: 'POST' }, { 'content-type': type })).toBe('content-type')
  const json = { 'content-type': 'application/json; charset=utf-8' }
  expect(refusal(access, { method: 'POST' }, json)).toBeUndefined()
})
