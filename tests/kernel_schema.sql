-- The tables of a Heldar 0.5 kernel that matter beside it, written from their description: a test fixture.
PRAGMA journal_mode = WAL;
PRAGMA foreign_keys = ON;

CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY, description TEXT NOT NULL, success BOOLEAN NOT NULL);

CREATE TABLE cameras (
    id TEXT PRIMARY KEY NOT NULL,
    site_id TEXT,
    name TEXT NOT NULL,
    vendor TEXT NOT NULL DEFAULT 'generic',
    model TEXT,
    address TEXT,
    rtsp_port INTEGER NOT NULL DEFAULT 554,
    username TEXT,
    password TEXT,
    main_stream_url TEXT,
    sub_stream_url TEXT,
    record_stream TEXT NOT NULL DEFAULT 'main',
    codec TEXT,
    resolution_main TEXT,
    resolution_sub TEXT,
    fps_main REAL,
    fps_sub REAL,
    capabilities TEXT NOT NULL DEFAULT '{}',
    record_enabled INTEGER NOT NULL DEFAULT 1,
    segment_seconds INTEGER NOT NULL DEFAULT 60,
    retention_hours INTEGER NOT NULL DEFAULT 24,
    enabled INTEGER NOT NULL DEFAULT 1,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    storage_quota_bytes INTEGER,
    record_audio INTEGER NOT NULL DEFAULT 0,
    record_mode TEXT NOT NULL DEFAULT 'continuous',
    pre_roll_seconds INTEGER NOT NULL DEFAULT 10,
    post_roll_seconds INTEGER NOT NULL DEFAULT 30,
    mirror_enabled INTEGER NOT NULL DEFAULT 0,
    anr_enabled INTEGER NOT NULL DEFAULT 0,
    anr_replay_url_template TEXT,
    priority INTEGER NOT NULL DEFAULT 100,
    live_warm INTEGER NOT NULL DEFAULT 0,
    native_anpr_enabled INTEGER NOT NULL DEFAULT 0,
    native_events_enabled INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE segments (
    id TEXT PRIMARY KEY NOT NULL,
    camera_id TEXT NOT NULL REFERENCES cameras (id) ON DELETE CASCADE,
    path TEXT NOT NULL UNIQUE,
    start_time TEXT NOT NULL,
    end_time TEXT NOT NULL,
    duration_s REAL NOT NULL,
    codec TEXT,
    width INTEGER,
    height INTEGER,
    size_bytes INTEGER NOT NULL DEFAULT 0,
    container TEXT NOT NULL DEFAULT 'mp4',
    locked INTEGER NOT NULL DEFAULT 0,
    incident_id TEXT,
    created_at TEXT NOT NULL,
    evidence_locked INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX idx_segments_camera_start ON segments (camera_id, start_time);
CREATE INDEX idx_segments_end ON segments (end_time);

CREATE TABLE recording_gaps (
    id TEXT PRIMARY KEY NOT NULL,
    camera_id TEXT NOT NULL REFERENCES cameras (id) ON DELETE CASCADE,
    gap_start TEXT NOT NULL,
    gap_end TEXT NOT NULL,
    gap_seconds INTEGER NOT NULL,
    fill_state TEXT NOT NULL DEFAULT 'pending',
    fill_attempts INTEGER NOT NULL DEFAULT 0,
    last_attempt_at TEXT,
    filled_at TEXT,
    created_at TEXT NOT NULL,
    UNIQUE (camera_id, gap_start)
);
CREATE INDEX idx_gaps_state_camera ON recording_gaps (fill_state, camera_id);

CREATE TABLE camera_status (
    camera_id TEXT PRIMARY KEY NOT NULL REFERENCES cameras (id) ON DELETE CASCADE,
    state TEXT NOT NULL DEFAULT 'unknown',
    last_segment_at TEXT,
    last_started_at TEXT,
    reconnect_count INTEGER NOT NULL DEFAULT 0,
    segments_written INTEGER NOT NULL DEFAULT 0,
    fps_observed REAL,
    bitrate_kbps REAL,
    last_error TEXT,
    recorder_pid INTEGER,
    updated_at TEXT NOT NULL
);

CREATE TABLE events (
    id TEXT PRIMARY KEY NOT NULL,
    camera_id TEXT,
    site_id TEXT,
    event_type TEXT NOT NULL,
    severity TEXT NOT NULL DEFAULT 'info',
    timestamp TEXT NOT NULL,
    payload TEXT NOT NULL DEFAULT '{}',
    created_at TEXT NOT NULL
);
CREATE INDEX idx_events_created ON events (created_at);
