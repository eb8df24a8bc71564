import Wire
import Work

// One line for everything that happens, for the trace.
extension Message {
    var short: String {
        let name = messageKind.description
        switch self {
        case .beat(let beat):
            let running = beat.running.map { "\($0.task.name)#\($0.fence)@\($0.step)" }
            return "\(name) free \(beat.freeSlots) [\(running.joined(separator: " "))]"
        case .submit(let submit): return "\(name) \(submit.idempotencyKey)"
        case .accepted(let accepted): return "\(name) \(accepted.job)\(accepted.replayed ? " again" : "")"
        case .assign(let assign):
            return "\(name) \(assign.lease.task)#\(assign.lease.fence) attempt \(assign.attempt)"
                + (assign.checkpoint == nil ? "" : " from step \(assign.checkpointStep)")
        case .refuse(let refuse): return "\(name) \(refuse.lease.short) \(refuse.code)"
        case .checkpoint(let report): return "\(name) \(report.lease.short) step \(report.step)"
        case .checkpointCommitted(let lease, let step): return "\(name) \(lease.short) step \(step)"
        case .complete(let complete): return "\(name) \(complete.lease.short)"
        case .committed(let lease), .leaseLost(let lease): return "\(name) \(lease.short)"
        case .fail(let fail): return "\(name) \(fail.lease.short) \(fail.code) \(fail.retry)"
        case .revoke(let revoke): return "\(name) \(revoke.lease.short) \(revoke.reason)"
        case .status(let page): return "\(name) " + page.jobs.map { "\($0.job) \($0.state)" }.joined(separator: ", ")
        case .event(let status): return "\(name) \(status.job) \(status.state)"
        case .cancel(let job): return "\(name) \(job)"
        case .deadRetry(let retry): return "\(name) \(retry.job) as \(retry.idempotencyKey)"
        case .deadPage(let page): return "\(name) " + page.jobs.map { "\($0.job) \($0.state)" }.joined(separator: ", ")
        case .cancelOutcome(let outcome): return "\(name) \(outcome.job) \(outcome.state)"
        case .error(let error): return "\(name) \(error.code)"
        case .query(let query): return "\(name) \(query.job)"
        case .watch(let watch): return "\(name) \(watch.job)"
        default: return name
        }
    }
}

extension Lease {
    var short: String { "\(task)#\(fence)" }
}

extension LedgerEntry {
    var short: String {
        switch self {
        case .jobAccepted(let entry):
            "\(kind) \(entry.job) for \(entry.key.key)" + (entry.retryOf.map { ", goes on from \($0)" } ?? "")
        case .leaseGranted(let entry): "\(kind) \(entry.lease.short) to \(entry.worker)"
        case .checkpointCommitted(let entry): "\(kind) \(entry.lease.short) step \(entry.step)"
        case .taskCompleted(let entry): "\(kind) \(entry.lease.short)"
        case .leaseEnded(let entry): "\(kind) \(entry.lease.short) \(entry.reason.rawValue): \(entry.message)"
        case .deadlineMoved(let entry): "\(kind) \(entry.job)"
        case .outputsLost(let entry): "\(kind) \(entry.job) \(entry.producers.joined(separator: ", "))"
        case .jobEnded(let entry): "\(kind) \(entry.job) \(entry.state) \(entry.code): \(entry.message)"
        default: "\(kind) \(job)"
        }
    }
}
