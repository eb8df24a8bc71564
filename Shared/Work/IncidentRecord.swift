package import Wire

/// How one lease ended without a result, as the ledger keeps it: the evidence that a dead job is judged by.
package struct IncidentRecord: Sendable, Hashable, Codable {
    /// What happened: `expired`, `failed`, `stalled` or `dropped`.
    package var kind: LeaseEnd.Reason
    package var code: String
    package var message: String
    /// Who might have done better, for a failure that was reported.
    package var retry: String?
    package var worker: String
    package var numerics: String
    /// How the worker's process ended, where its supervisor told.
    package var processEnd: String?
    /// Step that the worker had reported last.
    package var step: UInt32
    package var fence: UInt64
    package var grantedUnixMilliseconds: UInt64
    package var endedUnixMilliseconds: UInt64
    /// Whether it ran alone on its worker.
    package var isQuarantined: Bool

    /// The record as it goes over the wire.
    package func incident(of task: String) -> Incident {
        Incident(
            task: task, kind: kind.rawValue, code: code, message: cut(message, toBytes: Limits.incidentBytes),
            worker: worker, numerics: numerics, processEnd: cut(processEnd ?? "", toBytes: Limits.incidentBytes),
            step: step, fence: fence, grantedUnixMilliseconds: grantedUnixMilliseconds,
            endedUnixMilliseconds: endedUnixMilliseconds, isQuarantined: isQuarantined)
    }
}

/// What is known about the end of a lease beyond its reason.
package struct LeaseEvidence: Sendable, Hashable, Codable {
    package var step: UInt32
    package var unixMilliseconds: UInt64
    /// `Failure.Retry` of a failure that was reported.
    package var retry: String?
    package var processEnd: String?

    package init(
        step: UInt32, unixMilliseconds: UInt64, retry: String? = nil, processEnd: String? = nil
    ) {
        self.step = step
        self.unixMilliseconds = unixMilliseconds
        self.retry = retry
        self.processEnd = processEnd
    }
}

extension TaskRecord {
    /// Names of different workers that vanished while they held the task.
    package var crashedWorkers: Set<String> {
        Set((incidents ?? []).filter { $0.kind == .expired }.map(\.worker))
    }

    /// Whether the task took two different workers down: it may only run alone on its worker now.
    package var isQuarantined: Bool { crashedWorkers.count >= 2 }

    /// Failures of one class since the task's inputs were last made; reported ones by who may retry, and stalls.
    package func failures(of failureClass: String) -> UInt32 { failureClasses?[failureClass] ?? 0 }

    /// Notes how the current lease ended; beyond the limit the oldest that lost no worker give way.
    mutating func note(_ kind: LeaseEnd.Reason, code: String, message: String, evidence: LeaseEvidence) {
        let incident = IncidentRecord(
            kind: kind, code: code, message: cut(message, toBytes: Limits.incidentBytes), retry: evidence.retry,
            worker: worker, numerics: cut(numerics, toBytes: Limits.incidentBytes), processEnd: evidence.processEnd,
            step: evidence.step, fence: fence,
            grantedUnixMilliseconds: grantedUnixMilliseconds, endedUnixMilliseconds: evidence.unixMilliseconds,
            isQuarantined: isQuarantined)
        var all = (incidents ?? []) + [incident]
        // Those that tell of a lost worker stay: they decide about the quarantine.
        while all.count > Limits.incidents { all.remove(at: all.firstIndex { $0.kind != .expired } ?? 0) }
        incidents = all
    }
}

extension LeaseEnd {
    /// The counter that a failure belongs to: its class when it was reported, `stalled` when the watchdog found it.
    package var failureClass: String? {
        switch reason {
        case .failed: evidence?.retry ?? "failed"
        case .stalled: "stalled"
        default: nil
        }
    }
}
