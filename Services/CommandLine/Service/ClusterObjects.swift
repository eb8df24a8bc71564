/// A job that failed or died, as the gateway tells it (docs/api.md).
package struct DeadVideo: Sendable, Decodable {
    /// One lease that ended badly.
    package struct Incident: Sendable, Decodable {
        package var task: String
        package var kind: String
        package var code: String
        package var message: String
        package var worker: String
        package var numerics: String
        package var processEnd: String
        package var step: Int
        package var startedMilliseconds: UInt64
        package var endedMilliseconds: UInt64
        package var quarantined: Bool

        private enum CodingKeys: String, CodingKey {
            case task, kind, code, message, worker, numerics, step, quarantined
            case processEnd = "process_end"
            case startedMilliseconds = "started_unix_ms"
            case endedMilliseconds = "ended_unix_ms"
        }
    }

    package var id: String
    /// failed or dead.
    package var state: String
    package var error: VideoStatus.Problem
    package var task: String
    package var stage: String
    package var attempts: Int
    package var crashes: Int
    package var failures: Int
    package var checkpointStep: Int
    /// Seconds since 1970.
    package var finishedAt: UInt64
    package var retriedAs: String?
    /// Empty in lists.
    package var incidents: [Incident]

    private enum CodingKeys: String, CodingKey {
        case id, state, error, task, stage, attempts, crashes, failures, incidents
        case checkpointStep = "checkpoint_step"
        case finishedAt = "finished_at"
        case retriedAs = "retried_as"
    }
}

/// A page of dead jobs.
package struct DeadVideoList: Sendable, Decodable {
    package var data: [DeadVideo]
}

/// The workers that a broker knows now.
package struct WorkerList: Sendable, Decodable {
    /// One of them.
    package struct Worker: Sendable, Decodable {
        package var name: String
        package var stages: [String]
        package var slots: Int
        package var busy: Int
        package var draining: Bool
        /// What it could begin with at once; nil from a gateway of an earlier release.
        package var warm: [Warm]?
    }

    /// Weights that a denoiser has ready.
    package struct Warm: Sendable, Decodable, CustomStringConvertible {
        package struct Use: Sendable, Decodable {
            package var name: String
            package var weight: Double
        }

        package var dtype: String
        /// Nil where nobody knows their names.
        package var loras: [Use]?
        package var adapters: String?

        /// `bfloat16`, `bfloat16 with dusk:0.5 people/anna:1.0`, `bfloat16 with adapters 0123456789ab`.
        package var description: String {
            guard let adapters else { return dtype }
            let names = loras.map { $0.map { "\($0.name):\($0.weight)" }.joined(separator: " ") }
            return "\(dtype) with \(names ?? "adapters \(adapters)")"
        }
    }

    /// One broker.
    package struct Cell: Sendable, Decodable {
        package var name: String
        package var reachable: Bool
        package var draining: Bool
        package var queuedJobs: Int
        package var runningJobs: Int

        private enum CodingKeys: String, CodingKey {
            case name, reachable, draining
            case queuedJobs = "queued_jobs"
            case runningJobs = "running_jobs"
        }
    }

    package var data: [Worker]
    /// Whether no broker takes new jobs.
    package var draining: Bool
    /// Absent from a gateway of before there were cells.
    package var cells: [Cell]?
    /// What somebody should look at; nil from a gateway of an earlier release.
    package var notes: [String]?
}

/// Who is to drain: exactly one of the first three.
package struct DrainOrder: Sendable, Encodable {
    package var worker: String?
    package var stage: String?
    package var broker: Bool?
    package var resume: Bool?
    /// Which broker; nil = all.
    package var cell: String?

    package init(worker: String?, stage: String?, broker: Bool?, resume: Bool?, cell: String? = nil) {
        self.cell = cell
        self.worker = worker
        self.stage = stage
        self.broker = broker
        self.resume = resume
    }
}

/// Who drains now.
package struct DrainAnswer: Sendable, Decodable {
    package var workers: [String]
    package var broker: Bool
}
