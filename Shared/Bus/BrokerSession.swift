import Failure
import Wire

/// The state behind a `BrokerClient`: where the store is and who watches which job.
actor BrokerSession {
    typealias Watcher = AsyncThrowingStream<JobStatus, any Error>.Continuation

    typealias PreviewWatcher = AsyncThrowingStream<Preview, any Error>.Continuation

    /// Who looks at one thing about which jobs.
    private struct Audience<Element: Sendable> {
        typealias Watcher = AsyncThrowingStream<Element, any Error>.Continuation

        struct Entry {
            var watcher: Watcher
            var job: String
            /// Of what was seen last, where that has one.
            var revision: UInt64 = 0
            /// Sequence of the newest message that asked, by which an ERROR finds its way.
            var sequence: UInt64 = 0
        }

        var entries: [UInt64: Entry] = [:]
        private var nextIdentity: UInt64 = 0

        mutating func add(_ watcher: Watcher, to job: String) -> UInt64 {
            nextIdentity += 1
            entries[nextIdentity] = Entry(watcher: watcher, job: job)
            return nextIdentity
        }

        mutating func remove(_ watcher: Watcher, from job: String) {
            entries = entries.filter { $0.value.job != job || $0.value.watcher != watcher }
        }

        /// Ends those whose entries `isOver` chooses.
        mutating func end(_ failure: Failure, where isOver: (Entry) -> Bool = { _ in true }) {
            let over = entries.filter { isOver($0.value) }
            for identity in over.keys { entries[identity] = nil }
            for entry in over.values { entry.watcher.finish(throwing: failure) }
        }
    }

    /// A lost EVENT is made up for by asking again, and so a PREVIEW_WATCH is kept alive.
    private static let watchInterval = Duration.seconds(5)

    private let control: ControlClient
    private let timeout: Duration
    private(set) var storeLocations: [Location] = []
    /// The broker's name among several.
    private(set) var cell = ""
    private var watched = Audience<JobStatus>()
    private var previewed = Audience<Preview>()
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
        watched.end(Self.closed)
        previewed.end(Self.closed)
    }

    /// - Parameter patience: how long to wait for the answer; nil = as long as for any.
    func request(_ message: Message, patience: Duration? = nil) async throws(Failure) -> Message {
        try await control.request(message, timeout: patience ?? timeout)
    }

    static func unexpected(_ message: Message) -> Failure {
        Failure("unexpected", "the broker answered with \(message.messageKind)")
    }

    private static var closed: Failure { Failure("bus_closed", "the broker client was closed") }

    private func greet() async throws(Failure) {
        let reply = try await control.request(.clientHello, timeout: timeout)
        guard case .welcome(let welcome) = reply else { throw BrokerSession.unexpected(reply) }
        storeLocations = welcome.storeLocations
        cell = welcome.cell
        hasGreeted = true
    }

    // MARK: Watching

    func watch(_ job: String, _ watcher: Watcher) async {
        guard mayWatch(watcher) else { return }
        await sendWatch(watched.add(watcher, to: job))
    }

    func forget(_ job: String, _ watcher: Watcher) { watched.remove(watcher, from: job) }

    func watchPreviews(_ job: String, _ watcher: PreviewWatcher) async {
        guard mayWatch(watcher) else { return }
        await sendPreviewWatch(previewed.add(watcher, to: job))
    }

    func forgetPreviews(_ job: String, _ watcher: PreviewWatcher) { previewed.remove(watcher, from: job) }

    private func mayWatch<Element>(_ watcher: AsyncThrowingStream<Element, any Error>.Continuation) -> Bool {
        if isClosed { watcher.finish(throwing: Self.closed) }
        // Whoever cancelled this may have had `forget` run before it.
        return !isClosed && !Task.isCancelled
    }

    private func sendWatch(_ identity: UInt64) async {
        guard let entry = watched.entries[identity] else { return }
        let sequence = await control.send(.watch(Watch(job: entry.job, revision: entry.revision)))
        if let sequence { watched.entries[identity]?.sequence = sequence }
    }

    private func sendPreviewWatch(_ identity: UInt64) async {
        guard let entry = previewed.entries[identity] else { return }
        let sequence = await control.send(.previewWatch(job: entry.job))
        if let sequence { previewed.entries[identity]?.sequence = sequence }
    }

    private func watchAgain() async {
        for identity in watched.entries.keys.sorted() { await sendWatch(identity) }
        for identity in previewed.entries.keys.sorted() { await sendPreviewWatch(identity) }
    }

    private func handle(_ event: ControlClient.Event) async {
        switch event {
        case .connected:
            // A broker that restarted may have another store address; its revisions may have begun anew.
            for identity in watched.entries.keys { watched.entries[identity]?.revision = 0 }
            await watchAgain()
            if hasGreeted { Task { try? await self.greet() } }
        case .disconnected: break
        case .received(let envelope): deliver(envelope)
        }
    }

    private func deliver(_ envelope: Envelope) {
        switch envelope.message {
        case .event(let status):
            for (identity, entry) in watched.entries where entry.job == status.job {
                guard status.revision > entry.revision || status.state.isTerminal else { continue }
                watched.entries[identity]?.revision = status.revision
                entry.watcher.yield(status)
                if status.state.isTerminal {
                    watched.entries[identity] = nil
                    entry.watcher.finish()
                }
            }
        case .preview(let preview):
            for entry in previewed.entries.values where entry.job == preview.lease.task.job {
                entry.watcher.yield(preview)
            }
        case .error(let reply):
            let failure = Failure(reply), sequence = envelope.inReplyTo
            previewed.end(failure) { $0.sequence != 0 && $0.sequence == sequence }
            watched.end(failure) { $0.sequence != 0 && $0.sequence == sequence }
        default: break
        }
    }
}
