package import ArgumentParser
import Foundation

/// `zoetrope dead list|show|retry`: jobs that failed or died, why, and another try.
package struct DeadCommand: AsyncParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "dead", abstract: "Jobs that failed or died: what killed them, and another try.",
        subcommands: [DeadListCommand.self, DeadShowCommand.self, DeadRetryCommand.self])

    package init() {}
}

/// `zoetrope dead list`.
package struct DeadListCommand: AsyncParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "list", abstract: "List jobs that failed or died, newest first.")

    @Option(help: "How many jobs to list.") package var limit = 20
    @OptionGroup package var connection: AdminOptions

    package init() {}

    package func run() async throws {
        let client = try connection.client()
        for job in try await client.deadList(limit: limit).data { Console.print(DeadShowCommand.line(job)) }
    }
}

/// `zoetrope dead show ID`.
package struct DeadShowCommand: AsyncParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "show", abstract: "Show the evidence: every lease of the job that ended badly.")

    @Argument(help: "Job id.") package var id: String
    @OptionGroup package var connection: AdminOptions

    package init() {}

    package func run() async throws {
        let job = try await connection.client().dead(id)
        Console.print(Self.line(job))
        Console.print("  \(job.error.message)")
        if !job.task.isEmpty {
            Console.print(
                "  task \(job.task) (\(job.stage)): \(job.attempts) attempts, \(job.crashes) crashes, "
                    + "\(job.failures) failures")
        }
        if job.checkpointStep > 0 { Console.print("  a retry goes on after step \(job.checkpointStep)") }
        for incident in job.incidents { Self.lines(incident).forEach { Console.print($0) } }
        if let retry = job.retriedAs { Console.print("  retried as \(retry)") }
    }

    static func line(_ job: DeadVideo) -> String {
        let when = time(milliseconds: job.finishedAt * 1000)
        return "\(job.id)  \(job.state)  \(when)  \(job.error.code)"
            + (job.retriedAs == nil ? "" : "  (retried)")
    }

    private static func lines(_ incident: DeadVideo.Incident) -> [String] {
        var lines = [
            "  \(time(milliseconds: incident.startedMilliseconds)) … \(time(milliseconds: incident.endedMilliseconds))  "
                + "\(incident.task) on \(incident.worker)\(incident.quarantined ? ", alone" : ""), step \(incident.step): "
                + "\(incident.kind) (\(incident.code))",
            "    \(incident.message)",
        ]
        if !incident.processEnd.isEmpty { lines.append("    its process ended: \(incident.processEnd)") }
        if !incident.numerics.isEmpty { lines.append("    arithmetic: \(incident.numerics)") }
        return lines
    }

    private static func time(milliseconds: UInt64) -> String {
        Date(timeIntervalSince1970: Double(milliseconds) / 1000).ISO8601Format()
    }
}

/// `zoetrope dead retry ID`.
package struct DeadRetryCommand: AsyncParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "retry",
        abstract: "Make a new job of a dead one that keeps what was done, and print its id.")

    @Argument(help: "Job id.") package var id: String
    @Option(help: "The same key never makes a second retry.") package var idempotencyKey: String?
    @OptionGroup package var connection: AdminOptions

    package init() {}

    package func run() async throws {
        let client = try connection.client()
        Console.print(try await client.retryDead(id, idempotencyKey: idempotencyKey).id)
    }
}
