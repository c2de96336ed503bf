import type { MemberReport, MembersReport } from '@levelmq/store'
import { CommandError, ExitCode } from '../exit-code.ts'
import type { Paint } from '../terminal/paint.ts'
import { formatTable } from '../terminal/table.ts'

/** The members of a cluster, for people. Pure. */
export function formatMembers(report: MembersReport, paint: Paint): string {
  const rows = report.members.map((member) => [
    member.name,
    member.nodeId,
    member.role,
    member.connected ? 'yes' : 'no',
    member.position === undefined ? '-' : `${member.position.epoch}/${member.position.index}`,
    String(member.lag ?? '-'),
    levelsOf(member),
    member.address ?? '-',
  ])
  const lines = [
    `cluster  ${report.clusterUuid}`,
    `level    ${report.level}`,
    ...(report.changeUnderWay ? [paint('yellow', 'a change of members or level is under way')] : []),
    '',
    formatTable(['NAME', 'NODE', 'ROLE', 'CONNECTED', 'POSITION', 'LAG', 'LEVELS', 'ADDRESS'], rows, paint),
  ]
  return lines.join('\n')
}

/**
 * The node id of the member that an operator means: by node id, or by name if only one has it.
 *
 * @throws CommandError that names those there are.
 */
export function nodeIdOf({ members }: MembersReport, wanted: string): string {
  if (members.some(({ nodeId }) => nodeId === wanted)) return wanted
  const named = members.filter(({ name }) => name === wanted)
  const [only] = named
  if (only !== undefined && named.length === 1) return only.nodeId
  const known = members.map(({ name, nodeId }) => `${name} (${nodeId})`).join(', ')
  const what =
    named.length > 1 ? `several members are called ${wanted}: use a node id` : `no member ${wanted}`
  throw new CommandError(ExitCode.usage, `${what}; there are ${known}`)
}

function levelsOf({ levels }: MemberReport): string {
  if (levels === undefined) return '-'
  return levels.lowest === levels.highest ? String(levels.lowest) : `${levels.lowest}-${levels.highest}`
}
