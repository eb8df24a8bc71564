package import Failure
import Synchronization
package import Tensor

/// A port without a bus: inputs and checkpoints in memory, for running a stage inside one process.
package final class LocalPort: StagePort {
    private let inputs: [String: Tensor]
    private let start: [(step: Int, tensor: Tensor)]
    private let saved = Mutex<[(step: Int, tensor: Tensor)]>([])

    /// - Parameters:
    ///   - checkpoint: what an earlier attempt left, and its step.
    ///   - earlier: what it had left before that.
    package init(
        inputs: [String: Tensor], checkpoint: (step: Int, tensor: Tensor)? = nil,
        earlier: (step: Int, tensor: Tensor)? = nil
    ) {
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

    /// Every checkpoint saved so far, in order.
    package var checkpoints: [(step: Int, tensor: Tensor)] { saved.withLock { $0 } }
}
