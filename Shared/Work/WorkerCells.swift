package import Wire

/// A worker that several brokers (cells) know, as a pure state machine: a `WorkerState` for each, and above them the
/// slots, which belong to the worker.
///
/// Every broker is told only of slots that no task of another one takes, with a beat as soon as that changes. An offer
/// that was under way meanwhile is refused as `busy`, which costs the task no attempt.
///
/// **No cell starves.** An idle slot is offered to all, and whoever comes first has it. A slot that a task gives back is
/// offered to one cell at a time, the one that was given a slot longest ago first; the others are told of it only after
/// that one has answered two beats without an offer (its decision about the first precedes its answer to the second), has
/// left, or has been silent for `claimMilliseconds`. So between two tasks of a cell that always has work, every other
/// cell gets at most one task for each slot of the worker.
///
/// ```swift
/// var worker = WorkerCells(hello: hello, cells: [nil, nil])
/// for done in worker.handle(.connected, of: 1, now: now) { perform(done.effect, of: done.cell) }
/// ```
package struct WorkerCells: Sendable {
    /// What the runtime must do towards one broker.
    package struct Effect: Sendable, Hashable {
        /// Place of the broker in the list.
        package var cell: Int
        package var effect: WorkerEffect

        package init(cell: Int, effect: WorkerEffect) {
            self.cell = cell
            self.effect = effect
        }
    }

    private struct Link: Sendable {
        var state: WorkerState
        /// The name that the operator expects; nil takes any.
        var expectedName: String?
        var name = ""
        var epoch: UInt64 = 0
        /// Number of the newest task that it was given.
        var lastGiven: UInt64 = 0
        /// Let an offer pass without a word, and was not heard since.
        var isSilent = false
        /// Gets nothing: it is not who it should be, or another broker is the same cell.
        var isShunned = false
    }

    /// A slot that was given back, and who is asked next.
    private struct Claim: Sendable {
        /// The cells still to be asked; the first one is being asked.
        var order: [Int]
        var answers = 0
        var deadline: UInt64

        var holder: Int? { order.first }
    }

    /// How long a freed slot waits for one broker's answer, in milliseconds.
    package static let claimMilliseconds: UInt64 = 250

    private let slots: UInt32
    private var links: [Link]
    private var claims: [Claim] = []
    private var given: UInt64 = 0
    private var drainedCells: Set<Int> = []

    /// - Parameters:
    ///   - hello: what every broker is told.
    ///   - cells: the name that each broker should have; nil where any will do.
    package init(hello: Hello, cells: [String?]) {
        slots = hello.slots
        links = cells.map { Link(state: WorkerState(hello: hello), expectedName: $0) }
    }

    /// Slots that could take a task of any cell now.
    package var freeSlots: UInt32 {
        let taken = links.reduce(0) { $0 + $1.state.occupiedSlots }
        return isDraining || taken >= slots ? 0 : slots - taken
    }

    /// Whether nothing runs and every broker has answered everything.
    package var isEmpty: Bool { links.allSatisfy(\.state.isEmpty) }

    package var isDraining: Bool { links.contains(where: \.state.isDraining) }

    /// The name that the broker gave itself, or was expected to; empty when neither is known.
    package func name(of cell: Int) -> String {
        links[cell].name.isEmpty ? links[cell].expectedName ?? "" : links[cell].name
    }

    /// Bytes in the worker's own blob memory, for the beats.
    package mutating func setStoreBytes(_ bytes: UInt64) {
        for cell in links.indices { links[cell].state.storeBytes = bytes }
    }

    /// Affinities of tasks that need no weights loaded or changed, for the beats; what exceeds a beat is left out.
    package mutating func setWarm(_ affinities: [String]) {
        for cell in links.indices { links[cell].state.warm = Array(affinities.prefix(Limits.warmPerWorker)) }
    }

    /// What was fetched for the jobs of one broker, for its beats.
    package mutating func setFetched(_ counters: FetchCounters, of cell: Int) { links[cell].state.fetched = counters }

    /// Previews that were made for whomever, for the beats.
    package mutating func setPreviews(_ count: UInt64) {
        for cell in links.indices { links[cell].state.previews = count }
    }

    /// Advances the machine by one event that concerns one broker.
    package mutating func handle(_ event: WorkerEvent, of cell: Int, now: Instant) -> [Effect] {
        var effects: [Effect] = []
        if case .received(let envelope) = event {
            links[cell].isSilent = false
            if case .welcome(let welcome) = envelope.message {
                effects += meet(cell, welcome.cell, epoch: envelope.brokerEpoch)
            }
        }
        if links[cell].state.freesSlot(event) { openClaim(now) }
        // Its own beat follows at once and must not promise what another cell is asked about first.
        shareSlots()
        let wasDraining = links[cell].state.isDraining
        effects += advance(cell, event, now)
        if case .received(let envelope) = event, case .beatAcknowledgement = envelope.message {
            effects += noteAnswer(of: cell, now)
        }
        effects += settle(now)
        guard links[cell].state.isDraining, !wasDraining, !event.isGoodbye else { return effects }
        // Whoever orders it, the process ends: nobody may count on it.
        for other in links.indices where other != cell && !links[other].state.isDraining {
            effects += advance(other, .drain, now)
        }
        return effects + settle(now)
    }

    /// Advances the machine by one event that concerns all brokers: the clock, an order to drain, the end.
    package mutating func handleForAll(_ event: WorkerEvent, now: Instant) -> [Effect] {
        var effects: [Effect] = []
        for cell in links.indices { effects += handle(event, of: cell, now: now) }
        for index in claims.indices where claims[index].deadline <= now.milliseconds {
            if let holder = claims[index].holder { links[holder].isSilent = true }
        }
        return effects + settle(now)
    }

    private mutating func advance(_ cell: Int, _ event: WorkerEvent, _ now: Instant) -> [Effect] {
        var effects: [Effect] = []
        for effect in links[cell].state.handle(event, now: now) {
            switch effect {
            case .start:
                given += 1
                links[cell].lastGiven = given
                if let claim = claims.firstIndex(where: { $0.holder == cell }) { claims.remove(at: claim) }
            case .drained:
                drainedCells.insert(cell)
                guard drainedCells.count == links.count else { continue }
            default: break
            }
            effects.append(Effect(cell: cell, effect: effect))
        }
        return effects
    }

    // MARK: Who a broker is

    /// Two brokers that say they are one cell are the same ledger twice: the older one must get nothing.
    private mutating func meet(_ cell: Int, _ name: String, epoch: UInt64) -> [Effect] {
        links[cell].name = name
        links[cell].epoch = epoch
        var effects: [Effect] = []
        for index in links.indices {
            let reason = objection(to: index)
            if let reason, !links[index].isShunned {
                effects.append(Effect(cell: index, effect: .rejected(reason)))
            }
            links[index].isShunned = reason != nil
        }
        return effects
    }

    private func objection(to cell: Int) -> ErrorReply? {
        let link = links[cell]
        guard !link.name.isEmpty else { return nil }
        if let expected = link.expectedName, expected != link.name {
            return ErrorReply(
                code: "cell_mismatch", message: "the broker expected to be cell \(expected) is cell \(link.name)")
        }
        let newer = links.indices.first { other in
            other != cell && links[other].name == link.name
                && (links[other].epoch, -other) > (link.epoch, -cell)
        }
        guard newer != nil else { return nil }
        return ErrorReply(
            code: "cell_ambiguous", message: "another broker with a newer ledger is cell \(link.name) too")
    }

    // MARK: Slots

    /// Whether an offer from this cell is worth waiting for.
    private func isAskable(_ cell: Int) -> Bool {
        let link = links[cell]
        return link.state.phase == .ready && !link.state.isIsolated && !link.isSilent && !link.isShunned
    }

    private mutating func openClaim(_ now: Instant) {
        guard links.count > 1, !isDraining else { return }
        let order = links.indices.filter(isAskable).sorted { (links[$0].lastGiven, $0) < (links[$1].lastGiven, $1) }
        claims.append(Claim(order: order, deadline: now.milliseconds + Self.claimMilliseconds))
    }

    private mutating func noteAnswer(of cell: Int, _ now: Instant) -> [Effect] {
        var asksAgain = false
        for index in claims.indices where claims[index].holder == cell {
            claims[index].answers += 1
            if claims[index].answers == 1 { asksAgain = true }
        }
        guard asksAgain else { return [] }
        return links[cell].state.beatOnceMore(now: now).map { Effect(cell: cell, effect: $0) }
    }

    /// Ends claims that nobody has any more and tells every broker what it may count on.
    private mutating func settle(_ now: Instant) -> [Effect] {
        for index in claims.indices { passOn(index, now) }
        // The last one to be asked is asked together with all others.
        let isDraining = isDraining
        claims.removeAll { $0.order.count <= 1 || isDraining }
        shareSlots()
        var effects: [Effect] = []
        for cell in links.indices where links.count > 1 {
            effects += links[cell].state.beatIfSlotsChanged(now: now).map { Effect(cell: cell, effect: $0) }
        }
        return effects
    }

    private mutating func passOn(_ index: Int, _ now: Instant) {
        while let holder = claims[index].holder, claims[index].answers >= 2 || !isAskable(holder) {
            claims[index].order.removeFirst()
            claims[index].answers = 0
            claims[index].deadline = now.milliseconds + Self.claimMilliseconds
        }
    }

    private mutating func shareSlots() {
        let taken = links.reduce(0) { $0 + $1.state.occupiedSlots }
        for cell in links.indices {
            let claimed = UInt32(claims.count { $0.holder != nil && $0.holder != cell })
            links[cell].state.slotsElsewhere =
                links[cell].isShunned ? slots : taken - links[cell].state.occupiedSlots + claimed
        }
    }
}

extension WorkerEvent {
    fileprivate var isGoodbye: Bool {
        if case .goodbye = self { true } else { false }
    }
}
