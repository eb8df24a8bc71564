import Wire

/// A job that failed or died, as `/v1/dead` shows it.
struct DeadObject: Encodable {
    struct Problem: Encodable {
        let code: String
        let message: String
    }

    struct IncidentObject: Encodable {
        let task: String
        let kind: String
        let code: String
        let message: String
        let worker: String
        let numerics: String
        let processEnd: String
        let step: UInt32
        let startedMilliseconds: UInt64
        let endedMilliseconds: UInt64
        let quarantined: Bool

        enum CodingKeys: String, CodingKey {
            case task, kind, code, message, worker, numerics, step, quarantined
            case processEnd = "process_end"
            case startedMilliseconds = "started_unix_ms"
            case endedMilliseconds = "ended_unix_ms"
        }
    }

    let id: String
    let object = "dead_video"
    /// `failed` or `dead`.
    let state: String
    let error: Problem
    let task: String
    let stage: String
    let attempts: UInt32
    let crashes: UInt32
    let failures: UInt32
    let checkpointStep: UInt32
    let finishedAt: UInt64
    let retriedAs: String?
    let cell: String?
    let incidents: [IncidentObject]

    enum CodingKeys: String, CodingKey {
        case id, object, state, error, task, stage, attempts, crashes, failures, incidents
        case checkpointStep = "checkpoint_step"
        case finishedAt = "finished_at"
        case retriedAs = "retried_as"
        case cell = "x_cell"
    }

    init(_ job: DeadJob) {
        id = job.job
        state = "\(job.state)"
        error = Problem(code: job.errorCode, message: job.errorMessage)
        task = job.task
        stage = job.stage
        attempts = job.attempts
        crashes = job.crashes
        failures = job.failures
        checkpointStep = job.checkpointStep
        finishedAt = job.finishedUnixMilliseconds / 1000
        retriedAs = job.retriedAs.isEmpty ? nil : job.retriedAs
        cell = job.cell.isEmpty ? nil : job.cell
        incidents = job.incidents.map { incident in
            IncidentObject(
                task: incident.task, kind: incident.kind, code: incident.code, message: incident.message,
                worker: incident.worker, numerics: incident.numerics, processEnd: incident.processEnd,
                step: incident.step, startedMilliseconds: incident.grantedUnixMilliseconds,
                endedMilliseconds: incident.endedUnixMilliseconds, quarantined: incident.isQuarantined)
        }
    }
}
