// An afternoon with dockerode against a host: `afternoon.js SOCKET IMAGE [STEP…]`.
//
// Each step is a function; its name is printed when it has ended well. Nothing here knows whose engine answers.
'use strict';

const assert = require('node:assert');
const { PassThrough } = require('node:stream');
const Docker = require('dockerode');

const LOOP = ['sh', '-c', "trap 'exit 3' TERM; while :; do sleep 0.05; done"];
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** What a stream gives until it ends. */
function all(stream) {
  return new Promise((done, failed) => {
    const pieces = [];
    stream.on('data', (piece) => pieces.push(piece));
    stream.on('end', () => done(Buffer.concat(pieces)));
    stream.on('error', failed);
  });
}

/** Standard output and standard error of a multiplexed stream. */
async function both(docker, stream) {
  const [out, err] = [new PassThrough(), new PassThrough()];
  docker.modem.demuxStream(stream, out, err);
  stream.on('end', () => { out.end(); err.end(); });
  const [one, two] = await Promise.all([all(out), all(err)]);
  return [one.toString(), two.toString()];
}

async function until(condition, what) {
  for (let turn = 0; turn < 400; turn += 1) {
    if (await condition()) return;
    await pause(50);
  }
  throw new Error(`never: ${what}`);
}

async function refused(status, promise) {
  await assert.rejects(promise, (error) => {
    assert.strictEqual(error.statusCode, status, error.message);
    return true;
  });
}

/** A container that waits to be ended. */
async function sleeper(docker, image, name, more = {}) {
  const box = await docker.createContainer({ Image: image, Cmd: LOOP, name, ...more });
  await box.start();
  return box;
}

const steps = {
  async theEngineAnswers(docker) {
    assert.strictEqual((await docker.ping()).toString(), 'OK');
    assert.strictEqual((await docker.version()).Os, 'linux');
    assert.strictEqual((await docker.info()).Containers, 0);
  },

  async runWithStreams(docker, image) {
    const said = ['', ''];
    const streams = said.map((_, number) => new PassThrough().on('data', (piece) => { said[number] += piece; }));
    const [result, box] = await docker.run(image, ['sh', '-c', 'echo out; echo err >&2; exit 5'], streams, { Tty: false });
    assert.strictEqual(result.StatusCode, 5);
    // It says how the run ended when it knows that, which may be before the last of its output has come.
    await until(() => said.join('') === 'out\nerr\n', said);
    await box.remove();
  },

  async aLife(docker, image) {
    const box = await sleeper(docker, image, 'life', { Labels: { of: 'afternoon' } });
    assert.strictEqual((await box.inspect()).State.Running, true);
    const listed = await docker.listContainers({ filters: { label: ['of=afternoon'] } });
    assert.deepStrictEqual(listed.map((one) => one.Names), [['/life']]);
    await box.pause();
    await refused(409, box.start());
    await box.unpause();
    await box.rename({ name: 'lives' });
    await box.restart({ t: 2 });
    const waiting = box.wait();
    await box.stop({ t: 5 });
    assert.strictEqual((await waiting).StatusCode, 3);
    await assert.rejects(box.stop(), { statusCode: 304 });
    await refused(409, docker.createContainer({ Image: image, name: 'lives' }));
    await box.remove();
    await refused(404, box.inspect());
    await refused(404, docker.createContainer({ Image: 'nowhere:1' }));
  },

  async exec(docker, image) {
    const box = await sleeper(docker, image, 'exec');
    const exec = await box.exec({ Cmd: ['cat'], AttachStdin: true, AttachStdout: true, AttachStderr: true });
    const stream = await exec.start({ hijack: true, stdin: true });
    const answer = both(docker, stream);
    stream.write('through\n');
    stream.end();
    assert.deepStrictEqual(await answer, ['through\n', '']);
    await until(async () => (await exec.inspect()).Running === false, 'the exec has ended');
    assert.strictEqual((await exec.inspect()).ExitCode, 0);
    const tty = await box.exec({ Cmd: ['sh', '-c', 'tty; stty size'], AttachStdout: true, Tty: true });
    const terminal = await tty.start({ hijack: true, Tty: true });
    assert.match((await all(terminal)).toString(), /\/dev\/pts\/0/);
    await box.remove({ force: true });
  },

  async attach(docker, image) {
    const box = await docker.createContainer({ Image: image, Cmd: ['cat'], OpenStdin: true, StdinOnce: true });
    const stream = await box.attach({ stream: true, hijack: true, stdin: true, stdout: true, stderr: true });
    const answer = both(docker, stream);
    await box.start();
    stream.write('one\n');
    stream.end('two\n');
    assert.deepStrictEqual(await answer, ['one\ntwo\n', '']);
    assert.strictEqual((await box.wait()).StatusCode, 0);
    await box.remove();
  },

  async logs(docker, image) {
    const box = await docker.createContainer({ Image: image, Cmd: ['sh', '-c', 'for i in 1 2 3; do echo $i; sleep 0.1; done'] });
    await box.start();
    const follow = await box.logs({ follow: true, stdout: true, stderr: true });
    assert.deepStrictEqual(await both(docker, follow), ['1\n2\n3\n', '']);
    const once = await box.logs({ stdout: true, tail: 1 });
    assert.strictEqual(once.subarray(8).toString(), '3\n');
    await box.remove();
  },

  async files(docker, image) {
    const box = await sleeper(docker, image, 'files');
    const exec = await box.exec({ Cmd: ['sh', '-c', 'mkdir /tmp/d && echo here > /tmp/d/f'], AttachStdout: true });
    await all(await exec.start({ hijack: true }));
    const archive = await all(await box.getArchive({ path: '/tmp/d' }));
    assert(archive.includes('d/f') && archive.includes('here'));
    await box.putArchive(archive, { path: '/' });
    const again = await box.exec({ Cmd: ['cat', '/d/f'], AttachStdout: true });
    assert.deepStrictEqual(await both(docker, await again.start({ hijack: true })), ['here\n', '']);
    await refused(404, box.getArchive({ path: '/nowhere' }));
    await box.commit({ repo: 'committed', tag: '1' });
    await docker.getImage('committed:1').remove();
    await box.remove({ force: true });
  },

  async stats(docker, image) {
    const box = await sleeper(docker, image, 'stats');
    const once = await box.stats({ stream: false });
    assert(once.pids_stats.current >= 1 && once.memory_stats.usage > 0, JSON.stringify(once));
    const top = await box.top();
    assert(top.Titles.includes('PID') && top.Processes.length >= 1);
    await box.remove({ force: true });
  },

  async imagesAndVolumes(docker, image) {
    await docker.getImage(image).tag({ repo: 'other', tag: '2' });
    assert((await docker.listImages()).some((one) => one.RepoTags.includes('other:2')));
    const saved = await all(await docker.getImage('other:2').get());
    await docker.getImage('other:2').remove();
    const progress = await docker.loadImage(require('node:stream').Readable.from([saved]));
    assert.match((await all(progress)).toString(), /other:2/);
    await docker.getImage('other:2').remove();
    const volume = await docker.createVolume({ Name: 'kept', Labels: { a: 'b' } });
    assert.strictEqual((await volume.inspect()).Labels.a, 'b');
    await volume.remove();
    await refused(404, volume.inspect());
  },

  async events(docker, image) {
    const stream = await docker.getEvents({ filters: { type: ['container'], event: ['die'] } });
    const seen = [];
    stream.on('data', (piece) => seen.push(...piece.toString().trim().split('\n').map((line) => JSON.parse(line))));
    const box = await docker.createContainer({ Image: image, Cmd: ['sh', '-c', 'exit 9'] });
    await box.start();
    await until(() => seen.length > 0, 'an event');
    assert.strictEqual(seen[0].Actor.Attributes.exitCode, '9');
    stream.destroy();
    await box.remove();
  },

  async manyAtOnce(docker, image) {
    const names = Array.from({ length: 20 }, (_, number) => `many-${number}`);
    const boxes = await Promise.all(names.map((name) => docker.createContainer({ Image: image, Cmd: ['true'], name })));
    await Promise.all(boxes.map((box) => box.start()));
    const ends = await Promise.all(boxes.map((box) => box.wait()));
    assert(ends.every((end) => end.StatusCode === 0));
    assert.strictEqual((await docker.pruneContainers()).ContainersDeleted.length, 20);
  },
};

async function main() {
  const [socketPath, image, ...only] = process.argv.slice(2);
  const docker = new Docker({ socketPath });
  let failed = 0;
  for (const [name, step] of Object.entries(steps)) {
    if (only.length > 0 && !only.includes(name)) continue;
    const limit = pause(30000).then(() => { throw new Error('it hangs'); });
    try {
      await Promise.race([step(docker, image), limit]);
      console.log(`ok ${name}`);
    } catch (error) {
      failed += 1;
      console.log(`FAILED ${name}: ${error.stack}`);
      for (const one of await docker.listContainers({ all: true })) {
        await docker.getContainer(one.Id).remove({ force: true }).catch(() => {});
      }
    }
  }
  process.exit(failed > 0 ? 1 : 0);
}

main();
