import type { BrokerMemberStatus, BrokerStatus, BrokerStorageStatus } from '@levelmq/broker'
import { bytes } from '../inspect/verify-report.ts'
import type { Paint } from '../terminal/paint.ts'
import { formatTable } from '../terminal/table.ts'
import type { Answer } from './broker-status.ts'

/** The status of a cluster for people. Pure. */
export function formatReport(
  status: BrokerStatus,
  url: string,
  answers: readonly Answer[],
  paint: Paint,
): string {
  const lines = [headline(status, paint), ...facts(status)]
  if (status.waitingFor !== null) lines.push(paint('yellow', `waiting for   ${status.waitingFor}`))
  if (status.syncWarning !== null) lines.push(paint('yellow', `sync warning  ${status.syncWarning}`))
  if (status.zookeeper !== null) lines.push(zooKeeperLine(status.zookeeper))
  // An older broker says nothing of it.
  if (status.storage) lines.push(...storageLines(status.storage, paint))
  lines.push(`seen from     ${status.brokerName} (${status.role}) at ${url}`)
  for (const answer of answers)
    if ('error' in answer) lines.push(paint('dim', `no answer     ${answer.url}: ${answer.error}`))
  if (status.members.length > 0) lines.push('', memberTable(status.members, paint))
  return lines.join('\n')
}

/** The master's name, as `status` knows it. */
function masterName(status: BrokerStatus): string | undefined {
  if (status.role === 'master') return status.brokerName
  if (status.role === 'electing') return undefined
  return status.master?.brokerName ?? status.members.find((member) => member.role === 'master')?.name
}

function headline(status: BrokerStatus, paint: Paint): string {
  const name = masterName(status)
  if (name === undefined) return paint(['red', 'bold'], 'no master')
  const own = status.role === 'master' ? status.connectors.map((connector) => connector.uri) : []
  const uris = status.master?.connectors ?? own
  // Without the options, which concern the broker alone.
  const addresses = uris.map((uri) => uri.replace(/\?.*$/, ''))
  return ['master       ', paint(['green', 'bold'], name), ' ', ...addresses].join(' ').trimEnd()
}

function facts(status: BrokerStatus): string[] {
  const { epoch, electionReason, positionEpoch, position, commitIndex, quorum, replicas, sync, elector } =
    status
  return [
    `epoch         ${epoch}${electionReason === null ? '' : ` (${electionReason})`}`,
    `position      ${positionEpoch}/${position}, committed to ${commitIndex}`,
    `quorum        ${quorum.present} present, ${quorum.needed} of ${replicas} needed`,
    `sync          ${sync}`,
    `elector       ${elector}`,
  ]
}

function storageLines(
  { journalBytes, firstIndex, neededFrom, space, scrub }: BrokerStorageStatus,
  paint: Paint,
) {
  const lines = [`journal       ${bytes(journalBytes)} from record ${firstIndex}, needed from ${neededFrom}`]
  if (space === 'low') lines.push(paint(['red', 'bold'], 'disk full     producers are refused'))
  if (scrub !== null) {
    const last = scrub.lastPassMs === null ? 'none yet' : new Date(scrub.lastPassMs).toISOString()
    const text = `scrubber      last pass ${last}, ${Math.floor(scrub.progress * 100)}% of the next`
    const found = `, ${scrub.damaged} damaged, ${scrub.repaired} repaired`
    lines.push(scrub.damaged > scrub.repaired ? paint('red', text + found) : text + found)
  }
  return lines
}

function zooKeeperLine(zookeeper: NonNullable<BrokerStatus['zookeeper']>): string {
  const { address, path, state, sessionTimeoutMs, znode, members, reason } = zookeeper
  const parts = [`${state} to ${address}${path}`]
  if (typeof sessionTimeoutMs === 'number') parts.push(`session timeout ${sessionTimeoutMs} ms`)
  if (typeof znode === 'string') parts.push(`znode ${znode}`)
  if (typeof members === 'number') parts.push(`${members} members`)
  if (typeof reason === 'string') parts.push(reason)
  return `zookeeper     ${parts.join(', ')}`
}

function memberTable(members: readonly BrokerMemberStatus[], paint: Paint): string {
  const rows = members.map((member) => [
    member.name,
    member.address,
    member.role,
    member.voter ? member.state : `${member.state} (no vote)`,
    String(member.position ?? '-'),
    String(member.lag ?? '-'),
    member.lastHeardMs === null ? 'never' : `${Math.round(member.lastHeardMs)} ms ago`,
    member.reason ?? '',
  ])
  return formatTable(['NAME', 'ADDRESS', 'ROLE', 'STATE', 'POSITION', 'LAG', 'HEARD', ''], rows, paint)
}
