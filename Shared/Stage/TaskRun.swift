import Bus
import Failure
import Logging
import Synchronization
import Tensor
import Wire

/// What became of a task on this worker.
enum TaskOutcome: Sendable {
    case finished(outputs: [NamedRef], elapsedMilliseconds: UInt64, notes: [String], manner: String)
    case failed(Failure, missingInputs: [String])
    /// Stopped as asked: cancelled, and results do not count, or at a step that another worker goes on from.
    case stopped
}

/// One leased task from fetching its inputs to storing its outputs.
struct TaskRun: Sendable {
    let assign: Assign
    let progress: TaskProgress
    let store: DurableStore
    let outputs: MemoryStore
    /// Where consumers reach this worker's memory.
    let dataLocations: [Location]
    /// The way to workers that may help.
    let desk: AssistanceDesk
    /// Called for each checkpoint once it is durable, in rising order.
    let checkpointStored: @Sendable (UInt32, TensorRef) -> Void
    /// Called for each preview that the stage has made.
    var previewMade: @Sendable (PreviewPicture) -> Void = { _ in }

    /// Runs the handler and puts its outputs where they belong. Never throws: the outcome says it all.
    func execute(_ handler: any StageHandler) async -> TaskOutcome {
        let start = ContinuousClock.now
        let (checkpoints, writer) = AsyncStream.makeStream(
            of: PendingCheckpoint.self, bufferingPolicy: .bufferingNewest(1))
        let port = BusPort(
            assign: assign, store: store, desk: desk, checkpoints: writer, previewMade: previewMade)
        let writing = Task { await write(checkpoints, of: port) }
        do {
            let task = StageTask(
                name: assign.lease.task.description, attempt: Int(assign.attempt), parameters: assign.parameters,
                port: port, progress: progress)
            let result = try await handler.run(task)
            try task.checkCancelled()
            // A checkpoint of finished work helps nobody.
            writing.cancel()
            writer.finish()
            await writing.value
            let refs = try await publish(result)
            try task.checkCancelled()
            return .finished(
                outputs: refs, elapsedMilliseconds: start.duration(to: .now).milliseconds, notes: result.notes,
                manner: result.manner)
        } catch {
            // What is waiting is worth storing: the next attempt resumes from it.
            writer.finish()
            await writing.value
            guard progress.cancellation == nil, error.code != "yielded" else { return .stopped }
            return .failed(error, missingInputs: port.missingInputs)
        }
    }

    private func write(_ checkpoints: AsyncStream<PendingCheckpoint>, of port: BusPort) async {
        for await checkpoint in checkpoints {
            guard !Task.isCancelled else { return }
            let start = ContinuousClock.now
            defer { port.stored(in: start.duration(to: .now)) }
            if let ref = try? await store.store(checkpoint.tensor, for: assign.lease, progress) {
                checkpointStored(checkpoint.step, ref)
            }
        }
    }

    private func publish(_ result: StageResult) async throws(Failure) -> [NamedRef] {
        var refs: [NamedRef] = []
        for output in result.outputs {
            let tensor = output.tensor
            let ref: TensorRef
            if assign.durableOutputs {
                ref = try await store.store(tensor, for: assign.lease, progress)
            } else {
                let digest = outputs.insert(tensor)
                ref = TensorRef(digest: digest, dtype: tensor.dtype, shape: tensor.shape, locations: dataLocations)
            }
            refs.append(NamedRef(name: output.name, ref: ref))
        }
        return refs
    }
}

struct PendingCheckpoint: Sendable {
    var step: UInt32
    var tensor: Tensor
}

/// A task's inputs and checkpoints over the bus.
private final class BusPort: StagePort {
    private let assign: Assign
    private let store: DurableStore
    private let desk: AssistanceDesk
    private let checkpoints: AsyncStream<PendingCheckpoint>.Continuation
    private let missing = Mutex<[String]>([])
    private let cost = Mutex(Duration.zero)
    private let previewMade: @Sendable (PreviewPicture) -> Void

    init(
        assign: Assign, store: DurableStore, desk: AssistanceDesk,
        checkpoints: AsyncStream<PendingCheckpoint>.Continuation,
        previewMade: @escaping @Sendable (PreviewPicture) -> Void
    ) {
        self.desk = desk
        self.previewMade = previewMade
        self.assign = assign
        self.store = store
        self.checkpoints = checkpoints
    }

    var inputNames: [String] { assign.inputs.map(\.name) }

    /// Inputs that no location could serve undamaged.
    var missingInputs: [String] { missing.withLock { $0 } }

    func fetchInput(_ name: String) async throws(Failure) -> Tensor {
        guard let input = assign.inputs.first(where: { $0.name == name }) else {
            throw Failure("input_absent", "the task has no input \(name)", field: name)
        }
        do {
            return try await store.fetch(input.ref, for: assign.lease)
        } catch {
            // Damaged bytes are as good as none: whoever made them must make them again.
            if error.code == "input_missing" || error.code == "digest_mismatch" {
                missing.withLock { $0.append(name) }
            }
            throw error
        }
    }

    private var kept: [(step: Int, ref: TensorRef)] {
        [(assign.checkpoint, assign.checkpointStep), (assign.earlierCheckpoint, assign.earlierCheckpointStep)]
            .compactMap { ref, step in ref.map { (Int(step), $0) } }
    }

    var checkpointSteps: [Int] { kept.map(\.step) }

    func fetchCheckpoint(step: Int) async throws(Failure) -> Tensor {
        guard let ref = kept.first(where: { $0.step == step })?.ref else {
            throw Failure("input_absent", "the task has no checkpoint after step \(step)", field: "checkpoint")
        }
        return try await store.fetch(ref, for: assign.lease)
    }

    var checkpointCost: Duration { cost.withLock { $0 } }

    func stored(in duration: Duration) { cost.withLock { $0 = duration } }

    func gather(_ count: Int) async -> AssistanceParty? { await desk.gather(count, for: assign.lease) }

    func expectFollower() async -> AssistanceParty? { await desk.expectFollower(of: assign.lease) }

    var origins: [TaskOrigin] { assign.origins }

    func show(_ picture: PreviewPicture) { previewMade(picture) }

    func saveCheckpoint(step: Int, _ tensor: Tensor) {
        checkpoints.yield(PendingCheckpoint(step: UInt32(clamping: step), tensor: tensor))
    }
}

extension Duration {
    /// Whole milliseconds, at least 0.
    var milliseconds: UInt64 {
        let (seconds, attoseconds) = components
        return UInt64(max(0, seconds)) * 1000 + UInt64(max(0, attoseconds) / 1_000_000_000_000_000)
    }
}
