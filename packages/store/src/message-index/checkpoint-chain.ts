/**
 * Notices a checkpoint that LevelDB lost.
 *
 * LevelDB, opened as classic-level opens it, skips a damaged stretch of its log and goes on behind it: a checkpoint in
 * the middle would be missing without a word. So each checkpoint, by its number, also writes a stamp into one of a ring
 * of slots, and all slots must hold what the number of the last one says. Before the ring comes round, LevelDB's log is
 * emptied into table files, so a slot is never overwritten while the checkpoint before could still be lost.
 */
const slots = 1024
const checkpointsPerLog = slots / 2

export function slotOf(checkpoint: number): number {
  return checkpoint % slots
}

/** Whether LevelDB's log has to be emptied behind this checkpoint. */
export function endsLog(checkpoint: number): boolean {
  return checkpoint % checkpointsPerLog === 0
}

/** @param stamps - Number of the checkpoint by slot. */
export function chainIntact(lastCheckpoint: number, stamps: ReadonlyMap<number, number>): boolean {
  const first = Math.max(1, lastCheckpoint - slots + 1)
  for (let checkpoint = first; checkpoint <= lastCheckpoint; checkpoint++) {
    if (stamps.get(slotOf(checkpoint)) !== checkpoint) return false
  }
  return stamps.size === lastCheckpoint - first + 1
}
