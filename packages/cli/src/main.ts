#!/usr/bin/env node
/** Entry point of the `levelmq` command: checks the runtime before anything that needs it is loaded. */
const neededMajor = 24
const major = Number(process.versions.node.split('.')[0])

if (major < neededMajor) {
  console.error(
    `levelmq: needs Node.js ${neededMajor} or later, this is ${process.versions.node}. ` +
      'In a checkout, `npm run levelmq -- <command>` uses the right one.',
  )
  process.exitCode = 1
} else {
  const { run } = await import('./program.ts')
  process.exitCode = await run(process.argv.slice(2))
}

export {}
