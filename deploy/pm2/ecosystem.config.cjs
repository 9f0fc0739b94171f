// pm2 start deploy/pm2/ecosystem.config.cjs, or with --only planning-bord-email-worker. The names are those of the guide.
// Settings come from the environment in which PM2 is started: docs/operate/settings.md.

const path = require("node:path");

const root = path.resolve(__dirname, "../..");
const python = process.env.PLANNING_BORD_PYTHON || path.join(root, ".venv/bin/python");

const common = {
  cwd: root,
  script: python,
  interpreter: "none",
  // Each process is one more consumer; PM2's cluster mode is for Node.
  exec_mode: "fork",
  instances: 1,
  // Longer than STREAMS_GRACE (20 s): PM2's own 1.6 s would kill it in the middle of its handlers.
  kill_timeout: 35000,
  // Only the process itself is signalled: its watcher ends with it.
  treekill: false,
  // 2 is a wrong setting, 78 a Redis that refuses: the same again would end the same.
  stop_exit_codes: [0, 2, 78],
  exp_backoff_restart_delay: 1000,
  max_memory_restart: "1G",
  merge_logs: true,
  env: { LOG_FORMAT: "json", PYTHONUNBUFFERED: "1" },
};

const processes = {
  "planning-bord-email-worker": "processors.email",
  "planning-bord-inventory-worker": "processors.inventory",
  "planning-bord-report-worker": "processors.report",
  "planning-bord-file-worker": "processors.file",
  "planning-bord-relay": "streams.sql.relay",
  "planning-bord-links": "processors.shared.storage",
};

module.exports = {
  apps: Object.entries(processes).map(([name, module]) => ({ name, args: ["-m", module], ...common })),
};
