package import Bus
package import Failure
import Logging
import Request
package import Tensor
package import Wire

/// Where a task's tensors come from and its checkpoints go: the bus in a worker, memory in `LocalPort`.
package protocol StagePort: Sendable {
    var inputNames: [String] { get }
    func fetchInput(_ name: String) async throws(Failure) -> Tensor
    /// Steps of the durable checkpoints that earlier attempts left, newest first.
    var checkpointSteps: [Int] { get }
    func fetchCheckpoint(step: Int) async throws(Failure) -> Tensor
    func saveCheckpoint(step: Int, _ tensor: Tensor)
    /// How long the newest checkpoint took from here to the durable store; zero before the first.
    var checkpointCost: Duration { get }
    /// Up to `count` idle workers that help with this task; nil when there are none.
    func gather(_ count: Int) async -> AssistanceParty?
    /// A way to a worker of the next stage that takes this task's results as they come, if one does; nil when nobody can.
    func expectFollower() async -> AssistanceParty?
    /// How the job's earlier tasks that this one builds on were computed.
    var origins: [TaskOrigin] { get }
    /// Hands a JPEG picture to whoever looks; it may be lost.
    func show(_ picture: PreviewPicture)
}

extension StagePort {
    package func gather(_ count: Int) async -> AssistanceParty? { nil }
    package func expectFollower() async -> AssistanceParty? { nil }
    package var origins: [TaskOrigin] { [] }
    package func show(_ picture: PreviewPicture) {}
}

/// One task as its handler sees it: decoded parameters, named input tensors, progress, checkpoints.
package struct StageTask: Sendable {
    /// Job and task name, for logs.
    package let name: String
    /// 1 for the first try.
    package let attempt: Int
    /// Steps done, for the beat, and the order to stop.
    package let progress: TaskProgress
    private let parametersText: String
    private let port: any StagePort

    /// - Parameter parameters: UTF-8 JSON, as submitted.
    package init(
        name: String, attempt: Int, parameters: String, port: any StagePort, progress: TaskProgress = TaskProgress()
    ) {
        self.name = name
        self.attempt = attempt
        self.progress = progress
        parametersText = parameters
        self.port = port
    }

    // MARK: Parameters

    /// Decodes the task's JSON parameters. Fails with `parameters_invalid`.
    package func parameters<Parameters: Decodable>(_ type: Parameters.Type) throws(Failure) -> Parameters {
        try CanonicalJSON.decode(type, from: parametersText)
    }

    // MARK: Inputs

    /// Whether the task came with an input of this name.
    package func hasInput(_ name: String) -> Bool { port.inputNames.contains(name) }

    /// Fetches the input `name` and checks it.
    ///
    /// Fails with `input_absent` when the task has no such input, with `input_missing` when nobody serves it any more,
    /// and with the codes of `TensorExpectation.check`.
    package func input(_ name: String, _ expectation: TensorExpectation) async throws(Failure) -> Tensor {
        guard hasInput(name) else {
            throw Failure(
                "input_absent", "task \(self.name) has no input named \(name), only \(port.inputNames)", field: name,
                remedy: "Run gateway, broker and workers of one version.")
        }
        let tensor = try await port.fetchInput(name)
        try expectation.check(tensor, name: name)
        return tensor
    }

    /// As `input`, or nil where the task has no such input.
    package func optionalInput(_ name: String, _ expectation: TensorExpectation) async throws(Failure) -> Tensor? {
        guard hasInput(name) else { return nil }
        return try await input(name, expectation)
    }

    // MARK: Progress and cancellation

    /// Tells how far the task is, in units of the stage's own work; total 0 = not known yet.
    package func report(step: Int, of total: Int) { progress.report(step: step, of: total) }

    /// Whether the task must stop.
    package var isCancelled: Bool { progress.cancellation != nil }

    /// Throws `cancelled` once the task must stop; handlers call it between steps.
    package func checkCancelled() throws(Failure) {
        if let reason = progress.cancellation {
            throw Failure("cancelled", "task \(name) was stopped: \(reason)")
        }
    }

    /// Whether somebody else is to go on after the present step.
    package var mustYield: Bool { progress.yieldReason != nil }

    /// What a handler throws once it has saved its state because of `mustYield`.
    package var yielded: Failure {
        Failure("yielded", "task \(name) was handed back: \(progress.yieldReason ?? "")", retry: .otherWorker)
    }

    /// Tells the operator.
    package func log(_ text: String) { Logger(label: "zoetrope.stage").notice("\(name): \(text)") }

    // MARK: Help

    /// Up to `count` idle workers that help with this task, until `AssistanceParty.leave`; nil when there are none.
    package func gather(assistants count: Int) async -> AssistanceParty? { await port.gather(count) }

    /// A party in which a worker of the next stage may take a seat at any time, to take results as they come. It must be
    /// left. Nil when nobody can.
    package func expectFollower() async -> AssistanceParty? { await port.expectFollower() }

    // MARK: Previews

    /// Whether somebody looks: only then a preview is worth making.
    package var isWatched: Bool { progress.isWatched }

    /// Hands a preview to whoever looks. It may be lost, and nothing waits for it.
    package func show(_ picture: PreviewPicture) { port.show(picture) }

    // MARK: Where it comes from

    /// How the job's earlier tasks that this one builds on were computed; empty where that is not known.
    package var origins: [TaskOrigin] { port.origins }

    // MARK: Checkpoints

    /// The steps after which earlier attempts left their state, newest first; empty on a fresh start. A stage goes on
    /// from the first that it can fetch and read.
    package var checkpointSteps: [Int] { port.checkpointSteps }

    /// The state after one of `checkpointSteps`. Fails with `input_missing` or `digest_mismatch` when nobody has it
    /// undamaged.
    package func checkpoint(step: Int) async throws(Failure) -> Tensor { try await port.fetchCheckpoint(step: step) }

    /// Makes the state after `step` steps durable while the computation goes on.
    ///
    /// Steps must rise. When the store is slower than the steps, a waiting checkpoint gives way to a newer one.
    package func saveCheckpoint(step: Int, _ tensor: Tensor) { port.saveCheckpoint(step: step, tensor) }

    /// How long storing the newest checkpoint took, beside the computation.
    package var checkpointCost: Duration { port.checkpointCost }
}
