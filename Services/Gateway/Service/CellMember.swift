import Failure
import Wire

/// One cell of a gateway that has several: which one it is, and whether it is there.
///
/// A task of its own asks the broker every second, so that no request has to find out that a cell is dead. A request to
/// a cell that was there a moment ago waits through a restart, as with one broker; once the broker has missed a question,
/// requests fail at once with `cell_unreachable` until it answers again.
actor CellMember {
    nonisolated let service: any CellService
    /// For messages: where the broker should be.
    nonisolated let address: String
    nonisolated let expectedName: String?
    private let interval: Duration
    private var learntName: String?
    private var problem: Failure?
    private var watcher: Task<Void, Never>?
    private var firstCheck: Task<Void, Never>?

    init(service: any CellService, address: String, expectedName: String?, interval: Duration) {
        self.service = service
        self.address = address
        self.expectedName = expectedName
        self.interval = interval
    }

    /// Begins to watch the broker, and waits until it has answered once or failed to.
    func settle() async {
        let first = firstCheck ?? Task { await check() }
        firstCheck = first
        await first.value
        guard watcher == nil else { return }
        watcher = Task { [weak self, interval] in
            while !Task.isCancelled {
                try? await Task.sleep(for: interval)
                await self?.check()
            }
        }
    }

    func close() {
        firstCheck?.cancel()
        watcher?.cancel()
    }

    /// The cell's name: its own word, else the operator's; nil when neither is known.
    var name: String? { learntName ?? expectedName }

    /// For messages.
    var label: String { name.map { "\($0) (\(address))" } ?? "at \(address)" }

    /// Why nothing can be asked of it now, or nil.
    var absence: Failure? {
        get async {
            if let problem { return problem }
            return await service.isConnected ? nil : unreachable("there is no connection")
        }
    }

    /// Asks the broker. What means that it is away becomes `cell_unreachable`, which names the cell.
    func ask<Value: Sendable>(
        _ body: @Sendable (any CellService) async throws(Failure) -> Value
    ) async throws(Failure) -> Value {
        if let problem { throw problem }
        do throws(Failure) {
            return try await body(service)
        } catch {
            throw Self.isAbsence(error) ? unreachable(error.message) : error
        }
    }

    func unreachable(_ reason: String) -> Failure {
        var failure = Failure(
            "cell_unreachable", "cell \(label) cannot be reached: \(reason)", field: "cell",
            remedy: "Its jobs wait and go on when its broker is back; ask again then.", retry: .sameWorker)
        failure.retryAfterMilliseconds = 2000
        return failure
    }

    private func check() async {
        do throws(Failure) {
            let name = try await service.cell()
            if let refusal = objection(to: name) { throw refusal }
            learntName = name
            _ = try await service.check()
            problem = nil
        } catch {
            problem = Self.isAbsence(error) ? unreachable(error.message) : error
        }
    }

    private func objection(to name: String) -> Failure? {
        if name.isEmpty {
            return Failure(
                "cell_mismatch", "the broker at \(address) has no name: it is older than cells", field: "broker",
                remedy: "Upgrade it, or let the gateway use it alone.")
        }
        guard let expectedName, expectedName != name else { return nil }
        return Failure(
            "cell_mismatch", "the broker at \(address) is cell \(name), not \(expectedName)", field: "broker",
            remedy: "Correct --broker, or start that broker with --cell \(expectedName).")
    }

    private static func isAbsence(_ failure: Failure) -> Bool {
        ["broker_unreachable", "bus_closed", "key_refused"].contains(failure.code)
    }
}
