// Handler workers that cannot be loaded for a while, with stand-ins for them, under Node.js. See test_pool.py.
const [base] = process.argv.slice(2);
const { Pool } = await import(`${base}/pool.mjs`);

/** A pool whose first workers cannot be loaded; when each was hired. @param {number} failing */
function pooled(failing) {
  const hired = [];
  const spawn = () => {
    hired.push(performance.now());
    const broken = hired.length <= failing;
    const worker = { onmessage: null, onerror: null, terminate() {} };
    const say = (data) => queueMicrotask(() => worker.onmessage?.({ data }));
    worker.postMessage = ({ op }) => {
      if (broken) queueMicrotask(() => worker.onerror?.({ message: "no network" }));
      else say(op === "setup" ? { ready: true } : { value: op });
    };
    return worker;
  };
  return { hired, pool: new Pool(spawn, { op: "setup" }, 2, { againMs: 20 }) };
}

const task = { ms: 1000, late: () => new Error("late") };
const ended = ({ done }) => done.then((value) => value, ({ code, message }) => `${code}: ${message}`);

const blip = pooled(2);
const first = await Promise.all([ended(blip.pool.do({ op: "a" }, task)), ended(blip.pool.do({ op: "b" }, task))]);
const waits = blip.hired.slice(1, 3).map((at, i) => at - blip.hired[i]);
blip.pool.close();

const gone = pooled(100);
const second = await ended(gone.pool.do({ op: "a" }, task));
const tries = gone.hired.length;
const third = await ended(gone.pool.do({ op: "b" }, task));
gone.pool.close();
console.log(JSON.stringify({ first, waited: waits.some((ms) => ms >= 19), second, tries, third, more: gone.hired.length - tries }));
