import Failure
import Glibc
import Logging
import Runtime
import Wire

/// What is known about a holder's memory.
enum SharedAccess {
    /// It is being found out whether we see it; these transfers wait for that.
    case opening(connection: Int32, registration: UInt64, waiting: Set<UInt64>)
    case open(BorrowedMemory, connection: Int32, registration: UInt64, lastUse: ContinuousClock.Instant)
    /// We do not see it; asked again after this.
    case refused(until: ContinuousClock.Instant)
}

// Blobs of holders on this host come through shared memory where both sides really see the same.
extension DataClient {
    /// Blobs below this size are one message anyway.
    static let worthSharing = 16 << 10
    /// How long a holder whose memory we do not see is not asked again.
    private static let refusalTime = Duration.seconds(60)
    /// How long a holder may take to hand its memory over; it needs microseconds.
    private static let openingPatience = Duration.seconds(2)

    enum MemoryQuestion {
        case none
        case ask(MemoryWish)
        case wait
    }

    /// What to say about shared memory in the GET of this transfer.
    func memoryQuestion(_ identity: UInt64, _ transfer: Transfer) -> MemoryQuestion {
        guard sharesMemory, transfer.mayShare, transfer.length >= DataClient.worthSharing else { return .none }
        switch accesses[transfer.endpoint] {
        case nil: return .ask(MemoryWish())
        case .opening(let connection, let registration, var waiting):
            waiting.insert(identity)
            accesses[transfer.endpoint] = .opening(
                connection: connection, registration: registration, waiting: waiting)
            return .wait
        case .open(let memory, let connection, let registration, _):
            accesses[transfer.endpoint] = .open(
                memory, connection: connection, registration: registration, lastUse: .now)
            transfers[identity]?.triedMemory = true
            return .ask(MemoryWish(proof: memory.proof))
        case .refused(let end):
            guard end <= .now else { return .none }
            accesses[transfer.endpoint] = nil
            return .ask(MemoryWish())
        }
    }

    /// The holder says how to see its memory: try, then ask for the blob again.
    func accept(_ invitation: MemoryInvitation, _ identity: UInt64, _ sequence: UInt64) {
        guard let transfer = transfers[identity] else { return }
        bySequence[sequence] = nil
        transfers[identity]?.sequence = 0
        let holder = transfer.endpoint
        // An invitation after a proof: the holder does not know it (any more).
        if transfer.triedMemory { closeAccess(holder) }
        let isFirst = !transfer.wasInvited
        transfers[identity]?.wasInvited = true
        guard case nil = accesses[holder] else { return ask(identity) }
        guard isFirst, invitation.socket.hasPrefix(SharedGreeting.filePrefix) else {
            return refuse(holder, [identity], Failure("shared_memory_unavailable", "it invites and then knows nothing"))
        }
        do throws(Failure) {
            let path = runDirectory.socketPath(invitation.socket)
            let connection = try BorrowedMemory.connect(path, token: invitation.token)
            let registration = loop.reactor.register(
                descriptor: connection, ready: { self.assumeIsolated { $0.hearHolder(holder, connection) } },
                close: { self.assumeIsolated { $0.closeAccess(holder) } })
            accesses[holder] = .opening(connection: connection, registration: registration, waiting: [identity])
            loop.reactor.schedule(after: DataClient.openingPatience) {
                self.assumeIsolated { $0.endOpening(holder, connection) }
            }
        } catch {
            refuse(holder, [identity], error)
        }
    }

    /// The memory comes, or the end of the connection.
    private func hearHolder(_ holder: Holder, _ connection: Int32) {
        guard case .opening(connection, let registration, let waiting) = accesses[holder] else {
            // The holder never says anything more: what can be read is the end.
            return closeAccess(holder)
        }
        do throws(Failure) {
            guard let memory = try BorrowedMemory.receive(connection) else { return }
            accesses[holder] = .open(memory, connection: connection, registration: registration, lastUse: .now)
            if sweepTimer == nil { scheduleSweep() }
            for identity in waiting.sorted() { ask(identity) }
        } catch {
            closeAccess(holder)
            refuse(holder, waiting, error)
        }
    }

    private func endOpening(_ holder: Holder, _ connection: Int32) {
        guard case .opening(connection, _, let waiting) = accesses[holder] else { return }
        closeAccess(holder)
        refuse(holder, waiting, Failure("shared_memory_unavailable", "the holder hands nothing over"))
    }

    private func refuse(_ holder: Holder, _ waiting: Set<UInt64>, _ failure: Failure) {
        logger.debug("no shared memory with \(holder): \(failure.message)")
        accesses[holder] = .refused(until: .now + DataClient.refusalTime)
        for identity in waiting.sorted() {
            transfers[identity]?.triedMemory = true
            ask(identity)
        }
    }

    /// The blob lies in the holder's memory: copy it out, and see whether it lay there all the time.
    func borrow(_ slot: MemorySlot, _ identity: UInt64, _ sequence: UInt64) {
        guard let transfer = transfers[identity], case .fetch(let buffer, let hash, let received) = transfer.work,
            received == 0, !transfer.isBorrowing, slot.digest == transfer.digest,
            case .open(let memory, _, _, _) = accesses[transfer.endpoint]
        else { return finish(identity, .unshared("a place in memory that was not asked for")) }
        transfers[identity]?.isBorrowing = true
        Task {
            let isWhole = await BorrowingDesk().copy(slot, from: memory, to: buffer, hash)
            guard bySequence[sequence] == identity else { return }
            guard isWhole else { return finish(identity, .unshared("the place in memory was given away")) }
            release(identity)
            finish(identity, .fetched(buffer, transfer.digest, .memory))
        }
    }

    /// Forgets a holder's memory; what is still being copied out of it goes on.
    func closeAccess(_ holder: Holder) {
        let (connection, registration): (Int32, UInt64)
        switch accesses[holder] {
        case .opening(let opening, let watch, _): (connection, registration) = (opening, watch)
        case .open(_, let open, let watch, _): (connection, registration) = (open, watch)
        case .refused, nil: return
        }
        accesses[holder] = nil
        loop.reactor.unregister(registration)
        Glibc.close(connection)
    }

    func closeIdleAccesses(before limit: ContinuousClock.Instant) {
        for (holder, access) in accesses {
            switch access {
            case .open(_, _, _, let lastUse):
                if lastUse < limit, links[holder]?.transfers.isEmpty != false { closeAccess(holder) }
            case .refused(let end): if end <= .now { accesses[holder] = nil }
            case .opening: break
            }
        }
    }
}
