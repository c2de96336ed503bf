import { defineConfig, type ViteUserConfig } from 'vitest/config'

/** Tests that need something a fresh machine lacks are projects of their own, run by `.ci/run`. */
const config: ViteUserConfig = defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: ['packages/*/test/**/*.test.ts'],
          exclude: ['**/*.zookeeper.test.ts', '**/node_modules/**'],
          // Far more than any takes on an idle machine: a limit is to find what hangs, not what is slow.
          testTimeout: 60_000,
          hookTimeout: 60_000,
        },
      },
      {
        test: {
          name: 'system',
          include: ['test/system/**/*.test.ts'],
          exclude: ['**/*.zookeeper.test.ts'],
          testTimeout: 60_000,
          hookTimeout: 60_000,
          fileParallelism: false,
        },
      },
      {
        test: {
          name: 'zookeeper',
          include: ['packages/*/test/**/*.zookeeper.test.ts', 'test/**/*.zookeeper.test.ts'],
          testTimeout: 120_000,
          hookTimeout: 120_000,
          fileParallelism: false,
        },
      },
      {
        test: {
          name: 'containers',
          include: ['test/containers/**/*.test.ts'],
          testTimeout: 300_000,
          hookTimeout: 300_000,
          fileParallelism: false,
        },
      },
    ],
  },
})

export default config
