package import Failure
import Logging
import Wire

// Blobs for consumers on this host lie in memory that both see; the data socket carries only where.
extension DataServer {
    /// From now on lends memory to consumers that ask for it and show that they see it.
    ///
    /// - Parameters:
    ///   - path: the socket file over which consumers are given their memory; its name begins with `memory-`.
    ///   - budgetBytes: what the memory of all consumers may take together.
    ///   - lease: how long a consumer may take over one blob before its place is used again.
    /// - Throws: `shared_memory_unavailable` where the kernel cannot do it; `endpoint_in_use`, `endpoint_unusable`,
    ///   `bad_endpoint` for the path.
    package func lendMemory(
        through path: String, budgetBytes: Int, lease: Duration = .seconds(30)
    ) throws(Failure) {
        guard lender == nil else { return }
        let lender = try MemoryLender(path: path, budgetBytes: budgetBytes, lease: lease)
        self.lender = lender
        watchListener()
        scheduleLeases()
    }

    func closeLender() {
        guard let lender else { return }
        for descriptor in Array(lender.registrations.keys) { closeChannel(descriptor) }
        if let listenerRegistration { loop.reactor.unregister(listenerRegistration) }
        if let leaseTimer { loop.reactor.cancelTimer(leaseTimer) }
        listenerRegistration = nil
        leaseTimer = nil
        self.lender = nil
    }

    // MARK: Connections

    private func watchListener() {
        guard let lender else { return }
        listenerRegistration = loop.reactor.register(
            descriptor: lender.listener, ready: { self.assumeIsolated { $0.acceptChannels() } },
            close: { self.assumeIsolated { $0.closeLender() } })
    }

    private func acceptChannels() {
        guard let lender else { return }
        do throws(Failure) {
            while let descriptor = try lender.accept() {
                lender.registrations[descriptor] = loop.reactor.register(
                    descriptor: descriptor, ready: { self.assumeIsolated { $0.hearChannel(descriptor) } },
                    close: { self.assumeIsolated { $0.closeChannel(descriptor) } })
            }
        } catch {
            // The connection stays readable: looking again at once would spin.
            logger.warning("\(error)")
            if let listenerRegistration { loop.reactor.unregister(listenerRegistration) }
            listenerRegistration = nil
            loop.reactor.schedule(after: .seconds(1)) { self.assumeIsolated { $0.watchListener() } }
        }
    }

    private func hearChannel(_ descriptor: Int32) {
        guard let lender, lender.registrations[descriptor] != nil else { return }
        if !lender.hear(descriptor) { closeChannel(descriptor) }
    }

    /// A consumer is gone, or was none: what was lent to it comes back.
    private func closeChannel(_ descriptor: Int32) {
        guard let lender, let registration = lender.registrations.removeValue(forKey: descriptor) else { return }
        loop.reactor.unregister(registration)
        guard let channel = lender.close(descriptor) else { return }
        for (key, sending) in sendings where sending.lent?.channel == channel { drop(key) }
    }

    private func scheduleLeases() {
        guard let lender else { return }
        leaseTimer = loop.reactor.schedule(after: lender.lease / 4) { self.assumeIsolated { $0.endLeases() } }
    }

    private func endLeases() {
        guard let lender else { return }
        let limit = ContinuousClock.now - lender.lease
        for (key, sending) in sendings where sending.lent != nil && sending.lastActivity < limit {
            counted.expiredLeases += 1
            logger.debug("the place of \(sending.digest) in shared memory is used again: its consumer is silent")
            drop(key)
        }
        for descriptor in lender.overdue { closeChannel(descriptor) }
        scheduleLeases()
    }

    // MARK: Blobs

    /// Answers a GET whose sender has not shown yet that it sees our memory.
    ///
    /// - Returns: false when it gets chunks instead.
    func invite(_ wish: MemoryWish, _ get: Get, _ key: TransferKey) -> Bool {
        guard let lender, !lender.isProven(wish.proof, for: key.peer.key), let token = lender.invite(key.peer.key)
        else { return false }
        reply(
            .memoryInvitation(MemoryInvitation(digest: get.digest, socket: lender.fileName, token: token)), to: key)
        return true
    }

    /// Puts a blob into the consumer's memory; over the socket it goes where there is no room.
    ///
    /// - Returns: false when that was clear at once.
    func lend(_ blob: PinnedTensor, _ wish: MemoryWish, _ key: TransferKey, _ identity: UInt64) -> Bool {
        guard let lender, blob.count > 0, lender.isProven(wish.proof, for: key.peer.key) else { return false }
        guard let slot = lender.allocate(blob.count, proof: wish.proof, for: key.peer.key) else {
            counted.memoryFull += 1
            logger.debug("no room for \(blob.count) bytes in shared memory")
            return false
        }
        Task {
            let isWritten = await desk.write(blob, to: slot)
            lent(blob, slot, isWritten: isWritten, key, identity)
        }
        return true
    }

    private func lent(
        _ blob: PinnedTensor, _ slot: LentSlot, isWritten: Bool, _ key: TransferKey, _ identity: UInt64
    ) {
        if isWritten { lender?.populated(slot) } else { counted.memoryFull += 1 }
        guard var sending = sendings[key], sending.identity == identity else {
            lender?.release(slot)
            return
        }
        guard isWritten, lender?.isOpen(slot.channel) == true else {
            lender?.release(slot)
            return serve(blob, key)
        }
        sending.lent = slot
        sending.lastActivity = .now
        sendings[key] = sending
        counted.lentBlobs += 1
        counted.lentBytes += UInt64(blob.count)
        let answer = MemorySlot(
            digest: sending.digest, slot: UInt32(slot.index), generation: slot.generation,
            offset: UInt64(slot.extent.lowerBound), length: UInt64(blob.count))
        if reply(.memorySlot(answer), to: key) != .sent { drop(key) }
    }
}
