/** The budgets of the built package, with a real gateway and a real browser: prints each figure beside its bounds, and fails over a gate. */
import { World } from '../e2e/world.ts';
import { growth } from './growth.ts';
import { load } from './load.ts';
import { sizes } from './sizes.ts';
import { start } from './start.ts';
import { head, judge, type Row, show } from './table.ts';

const rows: Row[] = [];
const told = (more: Row[]): void => {
  more.forEach(show);
  rows.push(...more);
};

head();
told(sizes());
const world = await World.start();
try {
  for (const measure of [start, load, growth]) told(await measure(world));
} finally {
  await world.stop();
}
judge(rows);
