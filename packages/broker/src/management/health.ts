/** What a broker's status says about its health. Pure: it reads the same data that `/status` shows. */

/** The part of a broker's status that health is judged by. */
export interface HealthFacts {
  readonly nodeId?: string | null
  readonly role: 'master' | 'slave' | 'electing'
  /** What this broker lacks to be, or to follow, a master, in words. */
  readonly waitingFor?: string | null
  readonly members?: readonly HealthMember[]
}

interface HealthMember {
  readonly nodeId?: string | null
  readonly state: string
  readonly reason?: string | null
}

/** Whether a broker is fit for its part in the cluster, and if not, why. */
export interface Readiness {
  readonly ready: boolean
  readonly role: HealthFacts['role']
  readonly reason?: string
}

const soundStates: readonly string[] = ['self', 'connected', 'in sync']

/**
 * Ready is a master that serves, or a slave that is in sync with one.
 *
 * @param listening - Whether the connectors are open; only counts on a master.
 */
export function readinessOf(facts: HealthFacts, listening: boolean): Readiness {
  const { role } = facts
  const unready = (reason: string): Readiness => ({ ready: false, role, reason })
  if (typeof facts.waitingFor === 'string') return unready(`waiting for ${facts.waitingFor}`)
  switch (role) {
    case 'electing':
      return unready('no master is elected')
    case 'master':
      return listening ? { ready: true, role } : unready('elected, but the connectors are not open yet')
    case 'slave': {
      const self = facts.members?.find(
        (member) => member.nodeId !== undefined && member.nodeId === facts.nodeId,
      )
      if (self === undefined || soundStates.includes(self.state)) return { ready: true, role }
      return unready(typeof self.reason !== 'string' ? self.state : `${self.state}: ${self.reason}`)
    }
    default:
      return role satisfies never
  }
}
