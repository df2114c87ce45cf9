/** A figure beside what is aimed at and what is accepted. */
export interface Row {
  readonly what: string;
  readonly figure: number;
  readonly unit: string;
  /** Without both it is only told. */
  readonly target?: number;
  readonly gate?: number;
  /** It says as much of the machine as of the client: told beside its gate, and no reason to fail. */
  readonly bySpeed?: true;
}

export const KIB = 1024;
export const MIB = 1024 * 1024;

const shown = (figure: number): string => (Number.isInteger(figure) ? String(figure) : figure.toFixed(figure < 10 ? 2 : 1));
const over = ({ figure, gate, bySpeed }: Row): boolean => !bySpeed && gate !== undefined && figure > gate;

export function head(): void {
  console.log(`${'what'.padEnd(62)}${'figure'.padStart(12)}${'target'.padStart(9)}${'gate'.padStart(7)}`);
}

export function show(row: Row): void {
  const { what, figure, unit, target, gate } = row;
  const bound = (value: number | undefined, width: number): string => (value === undefined ? '' : String(value)).padStart(width);
  const note = over(row) ? '  OVER' : row.bySpeed ? '  (by speed: not gated)' : '';
  console.log(`${what.padEnd(62)}${`${shown(figure)} ${unit}`.trimEnd().padStart(12)}${bound(target, 9)}${bound(gate, 7)}${note}`);
}

/** Ends the process as a failed one if a figure is over its gate. */
export function judge(rows: readonly Row[]): void {
  const bad = rows.filter(over);
  for (const { what, figure, unit, gate } of bad) console.error(`${what}: ${shown(figure)} ${unit} is over the gate of ${gate} ${unit}`);
  if (bad.length > 0) process.exitCode = 1;
}

export function median(figures: readonly number[]): number {
  return [...figures].sort((a, b) => a - b)[figures.length >> 1] ?? Number.NaN;
}
