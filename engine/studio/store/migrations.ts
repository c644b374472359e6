/**
 * The store's schema as numbered steps, applied in order and never edited once released: what a user's data folder looks like is history.
 * JSON columns hold contract shapes that are read and written whole; everything that is searched or joined has a column of its own.
 * Times are ISO 8601 in UTC.
 */

export interface Migration {
  readonly version: number
  readonly title: string
  readonly sql: string
}

export const MIGRATIONS: readonly Migration[] = [
  {
    version: 1,
    title: 'library, jobs, results, chat, settings',
    sql: `
      CREATE TABLE models (
        id TEXT PRIMARY KEY,
        path TEXT NOT NULL,
        parent_id TEXT REFERENCES models(id),
        name TEXT NOT NULL,
        created_at TEXT NOT NULL,
        last_used_at TEXT,
        -- taken out of the library; the row stays so that it can be put back and so that results keep their subject
        removed_at TEXT,
        -- files deleted by the user through Lathe; such a row never comes back
        deleted_at TEXT,
        written_by_lathe INTEGER NOT NULL CHECK (written_by_lathe IN (0, 1)),
        is_sample INTEGER NOT NULL CHECK (is_sample IN (0, 1)),
        preset_id TEXT,
        -- sha256 over the tensor table and config: recognises a folder that moved
        fingerprint TEXT NOT NULL,
        facts TEXT NOT NULL CHECK (json_valid(facts))
      ) STRICT;
      CREATE UNIQUE INDEX models_path ON models(path) WHERE removed_at IS NULL AND deleted_at IS NULL;
      CREATE INDEX models_parent ON models(parent_id);

      CREATE TABLE jobs (
        id TEXT PRIMARY KEY,
        kind TEXT NOT NULL,
        title TEXT NOT NULL,
        state TEXT NOT NULL,
        model_id TEXT NOT NULL REFERENCES models(id),
        variant_id TEXT REFERENCES models(id),
        preset_id TEXT,
        request TEXT NOT NULL CHECK (json_valid(request)),
        phases TEXT NOT NULL CHECK (json_valid(phases)),
        error TEXT CHECK (error IS NULL OR json_valid(error)),
        peak_rss_bytes INTEGER,
        created_at TEXT NOT NULL,
        started_at TEXT,
        ended_at TEXT,
        -- place in the queue: smaller runs first
        rank INTEGER NOT NULL
      ) STRICT;
      CREATE INDEX jobs_rank ON jobs(rank);

      CREATE TABLE job_log (
        id INTEGER PRIMARY KEY,
        job_id TEXT NOT NULL REFERENCES jobs(id) ON DELETE CASCADE,
        at TEXT NOT NULL,
        level TEXT NOT NULL,
        text TEXT NOT NULL
      ) STRICT;
      CREATE INDEX job_log_job ON job_log(job_id, id);

      -- speed of a kind of work on this machine, remembered so that the next job can say how long it takes
      CREATE TABLE rates (
        key TEXT PRIMARY KEY,
        units_per_second REAL NOT NULL CHECK (units_per_second > 0),
        samples INTEGER NOT NULL,
        updated_at TEXT NOT NULL
      ) STRICT;

      CREATE TABLE results (
        id INTEGER PRIMARY KEY,
        model_id TEXT NOT NULL REFERENCES models(id),
        kind TEXT NOT NULL,
        -- task name for tasks, baseline id for drift, else ''
        subject TEXT NOT NULL,
        protocol_key TEXT NOT NULL,
        payload TEXT NOT NULL CHECK (json_valid(payload)),
        provenance TEXT NOT NULL CHECK (json_valid(provenance)),
        -- per-item answers, from which paired comparisons are made later; never sent to a screen
        details TEXT CHECK (details IS NULL OR json_valid(details)),
        -- no reference: results outlive the job that measured them
        job_id TEXT,
        created_at TEXT NOT NULL,
        superseded_by INTEGER REFERENCES results(id)
      ) STRICT;
      CREATE INDEX results_current ON results(model_id, kind, subject) WHERE superseded_by IS NULL;

      CREATE TABLE threads (
        id TEXT PRIMARY KEY,
        title TEXT NOT NULL,
        -- a title given by the user is never replaced by one made from the first prompt
        titled_by_user INTEGER NOT NULL CHECK (titled_by_user IN (0, 1)),
        model_id TEXT,
        system_prompt TEXT NOT NULL,
        sampling TEXT NOT NULL CHECK (json_valid(sampling)),
        created_at TEXT NOT NULL,
        updated_at TEXT NOT NULL
      ) STRICT;

      CREATE TABLE messages (
        ordinal INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        thread_id TEXT NOT NULL REFERENCES threads(id) ON DELETE CASCADE,
        role TEXT NOT NULL,
        content TEXT NOT NULL,
        model_id TEXT,
        created_at TEXT NOT NULL,
        stats TEXT CHECK (stats IS NULL OR json_valid(stats)),
        error TEXT CHECK (error IS NULL OR json_valid(error)),
        -- 1 while an answer is being written: after a crash this tells a partial answer from a finished one
        open INTEGER NOT NULL CHECK (open IN (0, 1))
      ) STRICT;
      CREATE INDEX messages_thread ON messages(thread_id, ordinal);

      CREATE TABLE settings (
        key TEXT PRIMARY KEY,
        value TEXT NOT NULL CHECK (json_valid(value))
      ) STRICT;
    `,
  },
  {
    version: 2,
    title: 'calibrations of adapters',
    sql: `
      CREATE TABLE calibrations (
        adapter_id TEXT NOT NULL,
        driver TEXT NOT NULL,
        payload TEXT NOT NULL CHECK (json_valid(payload)),
        measured_at TEXT NOT NULL,
        PRIMARY KEY (adapter_id, driver)
      ) STRICT;
    `,
  },
  {
    version: 3,
    title: 'items and tokens of results; servers and published results beside folders',
    sql: `
      -- the items of a task as its model answered them, one row each: read by the page
      CREATE TABLE result_samples (
        result_id INTEGER NOT NULL REFERENCES results(id),
        ordinal INTEGER NOT NULL,
        payload TEXT NOT NULL CHECK (json_valid(payload)),
        PRIMARY KEY (result_id, ordinal)
      ) STRICT, WITHOUT ROWID;

      -- the positions of a drift measurement: little-endian arrays of 32-bit numbers, all of one length
      CREATE TABLE result_tokens (
        result_id INTEGER PRIMARY KEY REFERENCES results(id),
        ids BLOB NOT NULL,
        kld BLOB NOT NULL,
        baseline_logprobs BLOB NOT NULL,
        candidate_logprobs BLOB NOT NULL,
        baseline_top BLOB NOT NULL,
        candidate_top BLOB NOT NULL
      ) STRICT;

      -- a server's model and a published results file have results but no folder; path then says where they are
      ALTER TABLE models ADD COLUMN origin TEXT NOT NULL DEFAULT 'folder' CHECK (origin IN ('folder', 'remote', 'published'));
      -- of a server: address, model name, variable that holds the key; never the key
      ALTER TABLE models ADD COLUMN endpoint TEXT CHECK (endpoint IS NULL OR json_valid(endpoint));
    `,
  },
  {
    version: 4,
    title: 'layers of compressions',
    sql: `ALTER TABLE jobs ADD COLUMN layers TEXT CHECK (layers IS NULL OR json_valid(layers));`,
  },
  {
    version: 5,
    title: 'drafts of chats',
    sql: `
      -- what was typed and not sent, by the page's own keys
      CREATE TABLE drafts (key TEXT PRIMARY KEY, text TEXT NOT NULL) STRICT;
    `,
  },
  {
    version: 6,
    title: 'what loads took beyond their prediction',
    sql: `
      CREATE TABLE load_errors (
        id INTEGER PRIMARY KEY,
        adapter_id TEXT NOT NULL,
        driver TEXT NOT NULL,
        -- measured less predicted, without weights and cache
        bytes INTEGER NOT NULL,
        measured_at TEXT NOT NULL
      ) STRICT;
      CREATE INDEX load_errors_adapter ON load_errors(adapter_id, id);
    `,
  },
]
