import { readFileSync } from 'node:fs'

/**
 * Whether this process may read from its terminal. A job in the background is stopped by the system when it tries.
 * Where that cannot be found out, it is assumed to be in the foreground.
 */
export function isInForeground(): boolean {
  try {
    const stat = readFileSync('/proc/self/stat', 'utf8')
    // The name, in parentheses, may hold blanks. Behind it: state, ppid, pgrp, session, tty_nr, tpgid.
    const [, , group, , , terminalGroup] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return group === terminalGroup
  } catch {
    return true
  }
}
