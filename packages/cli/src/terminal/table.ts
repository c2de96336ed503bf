import type { Paint } from './paint.ts'

/** Aligned columns, two blanks apart, headings on top. Pure. */
export function formatTable(
  headings: readonly string[],
  rows: readonly (readonly string[])[],
  paint: Paint,
): string {
  const widths = headings.map((heading, column) =>
    Math.max(heading.length, ...rows.map((row) => (row[column] ?? '').length)),
  )
  const line = (cells: readonly string[]) =>
    widths
      .map((width, column) => (cells[column] ?? '').padEnd(width))
      .join('  ')
      .trimEnd()
  return [paint('bold', line(headings)), ...rows.map(line)].join('\n')
}
