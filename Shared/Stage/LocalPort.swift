package import Failure
import Synchronization
package import Tensor
package import Wire

/// A port without a bus: inputs and checkpoints in memory, for running a stage inside one process.
package final class LocalPort: StagePort {
    private let inputs: [String: Tensor]
    private let start: [(step: Int, tensor: Tensor)]
    private let saved = Mutex<[(step: Int, tensor: Tensor)]>([])
    private let shown = Mutex<[PreviewPicture]>([])
    package let origins: [TaskOrigin]

    /// - Parameters:
    ///   - checkpoint: what an earlier attempt left, and its step.
    ///   - earlier: what it had left before that.
    ///   - origins: how the tasks before were computed.
    package init(
        inputs: [String: Tensor], checkpoint: (step: Int, tensor: Tensor)? = nil,
        earlier: (step: Int, tensor: Tensor)? = nil, origins: [TaskOrigin] = []
    ) {
        self.origins = origins
        self.inputs = inputs
        start = [checkpoint, earlier].compactMap { $0 }
    }

    package var inputNames: [String] { inputs.keys.sorted() }

    package func fetchInput(_ name: String) async throws(Failure) -> Tensor {
        guard let tensor = inputs[name] else {
            throw Failure("input_missing", "no input \(name)", field: name, retry: .otherWorker)
        }
        return tensor
    }

    package var checkpointSteps: [Int] { start.map(\.step) }

    package func fetchCheckpoint(step: Int) async throws(Failure) -> Tensor {
        guard let found = start.first(where: { $0.step == step }) else {
            throw Failure("input_missing", "no checkpoint after step \(step)", retry: .otherWorker)
        }
        return found.tensor
    }

    package func saveCheckpoint(step: Int, _ tensor: Tensor) {
        saved.withLock { $0.append((step, tensor)) }
    }

    package let checkpointCost = Duration.zero

    package func show(_ picture: PreviewPicture) { shown.withLock { $0.append(picture) } }

    /// Every preview made so far, in order.
    package var previews: [PreviewPicture] { shown.withLock { $0 } }

    /// Every checkpoint saved so far, in order.
    package var checkpoints: [(step: Int, tensor: Tensor)] { saved.withLock { $0 } }
}
