/** Points in time order, as uPlot takes them: one column of seconds and one column for each line. */
export class Series {
  readonly data: [number[], ...(number | null)[][]];

  /** `breakMs`: a longer pause between points interrupts the line, so that nothing is drawn that was not said. */
  constructor(
    lines: number,
    private readonly keepMs: number,
    private readonly breakMs: () => number,
  ) {
    this.data = [[], ...Array.from({ length: lines }, () => [])];
  }

  get length(): number {
    return this.data[0].length;
  }

  /** The newest value of a line. */
  last(line: number): number | null {
    return this.data[line + 1]?.at(-1) ?? null;
  }

  add(atMs: number, values: (number | null)[]): void {
    const [times, ...lines] = this.data;
    const at = atMs / 1000;
    const before = times.at(-1);
    if (before !== undefined && at <= before) return; // A device whose clock went back: the newer clock wins.
    if (before !== undefined && atMs - before * 1000 > this.breakMs()) this.append(before + 0.001, []);
    this.append(at, values);
    const oldest = at - this.keepMs / 1000;
    let old = 0;
    while (old < times.length && (times[old] ?? at) < oldest) old += 1;
    // In strides, since moving the whole array for each point would cost more than the drawing.
    if (old > 64) for (const column of [times, ...lines]) column.splice(0, old);
  }

  private append(at: number, values: (number | null)[]): void {
    const [times, ...lines] = this.data;
    times.push(at);
    lines.forEach((line, i) => line.push(values[i] ?? null));
  }
}
