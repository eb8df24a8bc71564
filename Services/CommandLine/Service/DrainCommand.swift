package import ArgumentParser
import Failure
import Runtime

/// `zoetrope drain WORKER`: lets workers finish and leave, or a broker take no new jobs.
package struct DrainCommand: AsyncParsableCommand, ActingCommand {
    package static let actions: Set<String> = ["all-of", "broker", "cell", "list", "resume"]

    package static let configuration = CommandConfiguration(
        commandName: "drain", abstract: "Empty a worker, so that it ends without costing a job anything.",
        discussion: """
            A drained worker gets no new task. A denoiser stores its state after the present step and another goes on \
            from there; other stages finish what they have. Then the worker ends with status 0. The command waits \
            until it is gone.
            """)

    @Argument(help: "Name of the worker, as `zoetrope drain --list` shows it.") package var worker: String?
    @Option(help: "Drain every worker of this stage.") package var allOf: String?
    @Flag(help: "The broker takes no new jobs and finishes those it has.") package var broker = false
    @Option(help: "With --broker: only the one of this cell. [default: all]") package var cell: String?
    @Flag(help: "With --broker: take new jobs again.") package var resume = false
    @Flag(help: "Only show who is connected.") package var list = false
    @Flag(help: "Do not wait until the workers are gone.") package var noWait = false
    @OptionGroup package var connection: AdminOptions

    package init() {}

    package func validate() throws {
        let wishes = [worker != nil, allOf != nil, broker, list].count { $0 }
        guard wishes == 1 else { throw ValidationError("Name one of WORKER, --all-of STAGE, --broker and --list.") }
        guard broker || !resume else { throw ValidationError("--resume goes with --broker.") }
        guard broker || cell == nil else { throw ValidationError("--cell goes with --broker.") }
    }

    package func run() async throws {
        let client = try connection.client()
        if list {
            for line in try await client.workerList().lines { Console.print(line) }
            return
        }
        let order = DrainOrder(
            worker: worker, stage: allOf, broker: broker ? true : nil, resume: resume ? true : nil, cell: cell)
        let answer = try await client.drain(order)
        if broker {
            let which = cell.map { "the broker of \($0)" } ?? "the broker"
            Console.print(answer.broker ? "\(which) takes no new jobs" : "\(which) takes jobs")
            return
        }
        for name in answer.workers { Console.print("\(name) drains") }
        guard !noWait else { return }
        var waiting = Set(answer.workers)
        while !waiting.isEmpty {
            try await Task.sleep(for: .milliseconds(200))
            let present = try await client.workerList().data
            // An order lives in the broker's memory: one that was restarted meanwhile needs it again.
            if present.contains(where: { waiting.contains($0.name) && !$0.draining }) {
                _ = try await client.drain(order)
            }
            let left = waiting.subtracting(present.map(\.name))
            for name in left.sorted() { Console.print("\(name) is gone") }
            waiting.subtract(left)
        }
    }
}
