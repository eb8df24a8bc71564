import Bus
import Failure
import Synchronization
import Tensor
import Wire

/// The broker's blob store as a worker sees it. Its addresses change when the broker restarts on another port, so
/// every try asks for the newest.
final class DurableStore: Sendable {
    private let client: DataClient
    private let locations = Mutex<[Location]>([])
    private let patience: Duration = .seconds(120)

    init(client: DataClient) { self.client = client }

    /// What was fetched so far, and over which way.
    var fetched: FetchCounters { client.fetched }

    /// Notes where WELCOME says the store is.
    func moved(to newLocations: [Location]) { locations.withLock { $0 = newLocations } }

    /// Fetches a tensor from one of its own locations, or from the store where those fail.
    ///
    /// Fails with `input_missing` when nobody serves it.
    func fetch(_ ref: TensorRef, for lease: Lease) async throws(Failure) -> Tensor {
        do {
            return try await client.fetch(ref, timeout: .seconds(30), lease: lease)
        } catch {
            let known = Set(ref.locations)
            let others = locations.withLock { $0 }.filter { !known.contains($0) }
            guard !others.isEmpty else { throw error }
            var elsewhere = ref
            elsewhere.locations = Array(others.prefix(Limits.locations))
            return try await client.fetch(elsewhere, timeout: .seconds(30), lease: lease)
        }
    }

    /// Stores a tensor durably; keeps trying through a restart of the broker, and while its disk is full, until the task
    /// is cancelled or two minutes have passed. Hours of denoising are worth waiting for an operator who makes room.
    func store(_ tensor: Tensor, for lease: Lease, _ progress: TaskProgress) async throws(Failure) -> TensorRef {
        let start = ContinuousClock.now
        while true {
            do {
                return try await client.store(
                    tensor, at: locations.withLock { $0 }, timeout: .seconds(10), lease: lease)
            } catch {
                let isOver = start.duration(to: .now) > patience || progress.cancellation != nil || Task.isCancelled
                if isOver { throw error }
            }
            try? await Task.sleep(for: .milliseconds(300))
        }
    }
}
