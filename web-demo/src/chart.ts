import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { age } from './age.ts';
import { el, say } from './dom.ts';
import type { MetricView } from './metrics.ts';
import { Series } from './series.ts';

const HEIGHT = 148;
const POWERS_OF_2 = Array.from({ length: 48 }, (_, power) => 2 ** power);

/** One chart with its newest values and its age. Draws at most once a frame, however many points come. */
export class Chart {
  readonly element: HTMLElement;
  readonly series: Series;
  private readonly plotBox = el('div', { class: 'plot' });
  private readonly values: HTMLElement[];
  private readonly detail = el('span', { class: 'detail' });
  private readonly chip = el('span', { class: 'chip' });
  private plot: uPlot | undefined;
  private lastAt = 0;
  private due = false;
  private top: number | undefined;
  private window: [number, number] = [0, 1];
  private readonly gaps: [number, number][] = [];

  constructor(
    readonly view: MetricView,
    keepMs: number,
    intervalMs: () => number,
  ) {
    this.series = new Series(view.lines.length, keepMs, () => Math.max(10_000, 4 * intervalMs()));
    this.values = view.lines.map(() => el('b', {}, '–'));
    const readouts = view.lines.map((line, i) =>
      el('span', { class: `readout line-${i}` }, view.lines.length > 1 ? `${line} ` : '', this.values[i] as HTMLElement),
    );
    this.element = el(
      'article',
      { class: 'chart', 'aria-label': view.title },
      el('header', {}, el('h3', {}, view.title), ...readouts, this.detail, this.chip),
      this.plotBox,
    );
    new ResizeObserver(() => this.resize()).observe(this.plotBox);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.plot?.redraw(false));
  }

  add(at: number, payload: Record<string, unknown>): void {
    const values = this.view.read(payload);
    this.series.add(at, values);
    this.lastAt = at;
    this.top = this.view.maxOf?.(payload) ?? this.top;
    say(this.detail, this.view.detail(payload));
    this.request();
  }

  /** Records between these moments are gone for good. */
  gap(from: number, to: number): void {
    this.gaps.push([from / 1000, to / 1000]);
    this.request();
  }

  /** Moves the window to end at `now`, and says how old the newest value is, or that the device was told to send none. */
  tick(now: number, windowMs: number, stale: boolean, off: boolean): void {
    this.window = [(now - windowMs) / 1000, now / 1000];
    this.element.classList.toggle('stale', stale);
    this.element.classList.toggle('off', off);
    const since = stale && this.lastAt > 0 ? `stale · ${age(now - this.lastAt)}` : '';
    say(this.chip, off ? 'off' : this.lastAt === 0 ? 'no data yet' : since);
    this.request();
  }

  private request(): void {
    if (this.due) return;
    this.due = true;
    requestAnimationFrame(() => {
      this.due = false;
      this.draw();
    });
  }

  private draw(): void {
    if (!this.plot) this.build();
    this.plot?.setData(this.series.data as uPlot.AlignedData, false);
    this.plot?.setScale('x', { min: this.window[0], max: this.window[1] });
    if (this.plot?.cursor.idx == null) this.show(undefined);
  }

  /** Shows the values under the pointer, or the newest. */
  private show(index: number | null | undefined): void {
    this.values.forEach((element, line) => {
      const value = index == null ? this.series.last(line) : (this.series.data[line + 1]?.[index] ?? null);
      say(element, value === null ? '–' : this.view.write(value as number));
    });
  }

  private resize(): void {
    if (this.plot && this.plotBox.clientWidth > 0) this.plot.setSize({ width: this.plotBox.clientWidth, height: HEIGHT });
    else this.request();
  }

  private build(): void {
    if (this.plotBox.clientWidth === 0) return;
    // Asked anew for each drawing: light, dark and stale have colours of their own.
    const color = (name: string) => (): string => getComputedStyle(this.element).getPropertyValue(name).trim();
    const axis: uPlot.Axis = {
      stroke: color('--muted'),
      font: '11px system-ui, sans-serif',
      grid: { stroke: color('--grid'), width: 1 },
      ticks: { show: false },
    };
    this.plot = new uPlot(
      {
        width: this.plotBox.clientWidth,
        height: HEIGHT,
        padding: [6, 14, 0, 0],
        legend: { show: false },
        cursor: { y: false, sync: { key: 'fleet' }, points: { size: 5 } },
        scales: {
          x: { time: true },
          y: { range: (_, low, high) => this.range(low, high) },
        },
        axes: [
          { ...axis, size: 22, space: 70, values: (_, splits) => splits.map(timeOfDay) },
          {
            ...axis,
            size: 62,
            space: 30,
            values: (_, splits) => splits.map((value) => this.view.write(value).replace('.0 ', ' ')),
            ...(this.view.binary ? { incrs: POWERS_OF_2 } : {}),
          },
        ],
        series: [
          {},
          ...this.view.lines.map((label, i) => ({
            label,
            stroke: color(`--line-${i}`),
            width: 1.5,
            points: { show: false },
            ...(i === 0 ? { fill: color('--line-fill') } : {}),
          })),
        ],
        hooks: {
          drawClear: [(plot) => this.drawGaps(plot, color('--gap')())],
          setCursor: [(plot) => this.show(plot.cursor.idx)],
        },
      },
      this.series.data as uPlot.AlignedData,
      this.plotBox,
    );
  }

  private range(low: number | null, high: number | null): [number, number] {
    const top = this.view.max ?? this.top;
    if (top !== undefined) return [0, top];
    if (this.view.metric === 'temperature' && low !== null && high !== null) return [low - 2, high + 2];
    return [0, Math.max(1, (high ?? 1) * 1.15)];
  }

  private drawGaps(plot: uPlot, color: string): void {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.fillStyle = color;
    for (const [from, to] of this.gaps) {
      const left = Math.max(bbox.left, plot.valToPos(from, 'x', true));
      const right = Math.min(bbox.left + bbox.width, plot.valToPos(to, 'x', true));
      if (right > left) ctx.fillRect(left, bbox.top, Math.max(2, right - left), bbox.height);
    }
    ctx.restore();
  }
}

function timeOfDay(seconds: number): string {
  return new Date(seconds * 1000).toLocaleTimeString(undefined, {
    hour: '2-digit',
    minute: '2-digit',
    hour12: false,
    ...(seconds % 60 === 0 ? {} : { second: '2-digit' }),
  });
}
