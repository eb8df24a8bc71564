import Failure
import Wire

/// The state behind a `BrokerClient`: where the store is and who watches which job.
actor BrokerSession {
    typealias Watcher = AsyncThrowingStream<JobStatus, any Error>.Continuation

    private struct Watched {
        var watcher: Watcher
        var job: String
        var revision: UInt64 = 0
        /// Sequence of the newest WATCH, by which an ERROR finds its way.
        var sequence: UInt64 = 0
    }

    typealias PreviewWatcher = AsyncThrowingStream<Preview, any Error>.Continuation

    private struct PreviewWatched {
        var watcher: PreviewWatcher
        var job: String
        var sequence: UInt64 = 0
    }

    /// A lost EVENT is made up for by asking again, and so a PREVIEW_WATCH is kept alive.
    private static let watchInterval = Duration.seconds(5)

    private let control: ControlClient
    private let timeout: Duration
    private(set) var storeLocations: [Location] = []
    /// The broker's name among several.
    private(set) var cell = ""
    private var watched: [UInt64: Watched] = [:]
    private var previewed: [UInt64: PreviewWatched] = [:]
    private var nextIdentity: UInt64 = 0
    private var reader: Task<Void, Never>?
    private var reminder: Task<Void, Never>?
    private var hasGreeted = false
    private var isClosed = false

    init(control: ControlClient, timeout: Duration) {
        self.control = control
        self.timeout = timeout
    }

    var isConnected: Bool {
        get async { await control.isConnected }
    }

    func start() async throws(Failure) {
        reader = Task { [control] in
            for await event in control.events { await self.handle(event) }
            await self.close()
        }
        try await greet()
        reminder = Task { [weak self] in
            while !Task.isCancelled {
                try? await Task.sleep(for: BrokerSession.watchInterval)
                guard let session = self else { return }
                await session.watchAgain()
            }
        }
    }

    func close() async {
        isClosed = true
        reader?.cancel()
        reminder?.cancel()
        await control.close()
        let open = watched.values
        watched = [:]
        for entry in open { entry.watcher.finish(throwing: Failure("bus_closed", "the broker client was closed")) }
        let looking = previewed.values
        previewed = [:]
        for entry in looking { entry.watcher.finish(throwing: Failure("bus_closed", "the broker client was closed")) }
    }

    /// - Parameter patience: how long to wait for the answer; nil = as long as for any.
    func request(_ message: Message, patience: Duration? = nil) async throws(Failure) -> Message {
        try await control.request(message, timeout: patience ?? timeout)
    }

    static func unexpected(_ message: Message) -> Failure {
        Failure("unexpected", "the broker answered with \(message.messageKind)")
    }

    private func greet() async throws(Failure) {
        let reply = try await control.request(.clientHello, timeout: timeout)
        guard case .welcome(let welcome) = reply else { throw BrokerSession.unexpected(reply) }
        storeLocations = welcome.storeLocations
        cell = welcome.cell
        hasGreeted = true
    }

    // MARK: Watching

    func watch(_ job: String, _ watcher: Watcher) async {
        guard !isClosed else {
            return watcher.finish(throwing: Failure("bus_closed", "the broker client was closed"))
        }
        // Whoever cancelled this may have had `forget` run before it.
        guard !Task.isCancelled else { return }
        nextIdentity += 1
        watched[nextIdentity] = Watched(watcher: watcher, job: job)
        await sendWatch(nextIdentity)
    }

    func forget(_ job: String, _ watcher: Watcher) {
        for (identity, entry) in watched where entry.job == job && entry.watcher == watcher {
            watched[identity] = nil
        }
    }

    private func sendWatch(_ identity: UInt64) async {
        guard let entry = watched[identity] else { return }
        let sequence = await control.send(.watch(Watch(job: entry.job, revision: entry.revision)))
        if let sequence { watched[identity]?.sequence = sequence }
    }

    func watchPreviews(_ job: String, _ watcher: PreviewWatcher) async {
        guard !isClosed else {
            return watcher.finish(throwing: Failure("bus_closed", "the broker client was closed"))
        }
        guard !Task.isCancelled else { return }
        nextIdentity += 1
        previewed[nextIdentity] = PreviewWatched(watcher: watcher, job: job)
        await sendPreviewWatch(nextIdentity)
    }

    func forgetPreviews(_ job: String, _ watcher: PreviewWatcher) {
        for (identity, entry) in previewed where entry.job == job && entry.watcher == watcher {
            previewed[identity] = nil
        }
    }

    private func sendPreviewWatch(_ identity: UInt64) async {
        guard let entry = previewed[identity] else { return }
        if let sequence = await control.send(.previewWatch(job: entry.job)) {
            previewed[identity]?.sequence = sequence
        }
    }

    private func watchAgain() async {
        for identity in watched.keys.sorted() { await sendWatch(identity) }
        for identity in previewed.keys.sorted() { await sendPreviewWatch(identity) }
    }

    private func handle(_ event: ControlClient.Event) async {
        switch event {
        case .connected:
            // A broker that restarted may have another store address; its revisions may have begun anew.
            for identity in watched.keys { watched[identity]?.revision = 0 }
            await watchAgain()
            if hasGreeted { Task { try? await self.greet() } }
        case .disconnected: break
        case .received(let envelope): deliver(envelope)
        }
    }

    private func deliver(_ envelope: Envelope) {
        switch envelope.message {
        case .event(let status):
            for (identity, entry) in watched where entry.job == status.job {
                guard status.revision > entry.revision || status.state.isTerminal else { continue }
                watched[identity]?.revision = status.revision
                entry.watcher.yield(status)
                if status.state.isTerminal {
                    watched[identity] = nil
                    entry.watcher.finish()
                }
            }
        case .preview(let preview):
            for entry in previewed.values where entry.job == preview.lease.task.job { entry.watcher.yield(preview) }
        case .error(let reply):
            for (identity, entry) in previewed where entry.sequence != 0 && entry.sequence == envelope.inReplyTo {
                previewed[identity] = nil
                entry.watcher.finish(throwing: Failure(reply))
            }
            for (identity, entry) in watched where entry.sequence != 0 && entry.sequence == envelope.inReplyTo {
                watched[identity] = nil
                entry.watcher.finish(throwing: Failure(reply))
            }
        default: break
        }
    }
}
