import Wire

// What the broker says, and what becomes of leases then.
extension WorkerState {
    mutating func receive(_ envelope: Envelope, now: Instant) -> [WorkerEffect] {
        guard envelope.brokerEpoch >= brokerEpoch, !hasLeft else { return [] }
        var effects: [WorkerEffect] = []
        lastHeardAt = now.milliseconds
        isIsolated = false
        if envelope.brokerEpoch > brokerEpoch {
            let isFirst = brokerEpoch == 0
            brokerEpoch = envelope.brokerEpoch
            effects.append(.brokerEpoch(brokerEpoch))
            if !isFirst, !isWelcome(envelope.message) { effects += sayHello(now) }
        }
        switch envelope.message {
        case .welcome(let welcome): effects += accept(welcome, now: now)
        case .needHello:
            if !effects.contains(where: isHello) { effects += sayHello(now) }
        case .beatAcknowledgement(let acknowledgement):
            if acknowledgement.drain, !isDraining { effects += beginDraining("drain") }
            // What is not COMMITTED yet cannot be meant: the same bytes were released for an earlier task.
            let releases = acknowledgement.releases.filter { !isUnconfirmedOutput($0) }
            if !releases.isEmpty { effects.append(.release(releases)) }
            let watched = acknowledgement.watched.filter { held[$0]?.occupiesSlot ?? false }
            if !watched.isEmpty { effects.append(.watched(watched)) }
        case .assign(let assign): effects += take(assign, inReplyTo: envelope.sequence, now: now)
        case .assist(let order): effects += take(order, now: now)
        case .checkpointCommitted(let lease, let step):
            if let pending = held[lease]?.checkpoint, pending.step <= step { held[lease]?.checkpoint = nil }
            if held[lease] != nil { effects.append(.checkpointCommitted(lease, step: step)) }
            effects += handBack(lease)
        case .committed(let lease):
            if let task = held[lease], !task.occupiesSlot {
                held[lease] = nil
                effects.append(.committed(lease))
            } else {
                // An ASSIGN that came once more after its result was COMMITTED: nobody would ever take this one away.
                effects += lose(lease, reason: "already_done")
            }
        case .leaseLost(let lease): effects += lose(lease, reason: "lease_lost")
        case .revoke(let revoke):
            effects +=
                revoke.yields
                ? yield(revoke.lease, reason: revoke.reason) : lose(revoke.lease, reason: revoke.reason)
        case .error(let error):
            if phase == .helloSent { effects.append(.rejected(error)) }
        default: break
        }
        return effects
    }

    private func isUnconfirmedOutput(_ digest: Digest) -> Bool {
        held.values.contains { task in
            guard case .completed(let complete) = task.work else { return false }
            return complete.outputs.contains { $0.ref.digest == digest }
        }
    }

    private func isWelcome(_ message: Message) -> Bool {
        if case .welcome = message { return true }
        return false
    }

    private func isHello(_ effect: WorkerEffect) -> Bool {
        if case .send(.hello, _) = effect { return true }
        return false
    }

    private mutating func accept(_ welcome: Welcome, now: Instant) -> [WorkerEffect] {
        guard phase != .disconnected else { return [] }
        phase = .ready
        beatMilliseconds = UInt64(max(1, welcome.beatMilliseconds))
        leaseMilliseconds = UInt64(max(1, welcome.leaseMilliseconds))
        return [.welcomed(welcome)] + beat(now)
    }

    private mutating func take(_ assign: Assign, inReplyTo sequence: UInt64, now: Instant) -> [WorkerEffect] {
        let lease = assign.lease
        if held[lease] != nil { return [] }
        var effects: [WorkerEffect] = []
        for other in held.keys where other.task == lease.task {
            // An ASSIGN overtaken by a newer one of the same task: its lease is gone already.
            if other.fence > lease.fence {
                return [.send(.refuse(Refuse(lease: lease, code: "stale")), inReplyTo: sequence)]
            }
            effects += lose(other, reason: "lease_lost")
        }
        let canServe = hello.capabilities.contains {
            $0.stage == assign.stage && (assign.model.isEmpty || $0.model == assign.model)
        }
        guard canServe else {
            return effects + [.send(.refuse(Refuse(lease: lease, code: "unfit")), inReplyTo: sequence)]
        }
        guard freeSlots > 0, held.count < Limits.runningTasksPerWorker else {
            return effects + [.send(.refuse(Refuse(lease: lease, code: "busy")), inReplyTo: sequence)]
        }
        held[lease] = Held(work: .computing, step: assign.checkpointStep, progressAt: now.milliseconds)
        return effects + [.start(assign)]
    }

    /// Whoever cannot help stays away: the leader waits a moment for those who were sent, and begins without the others.
    private mutating func take(_ order: AssistOrder, now: Instant) -> [WorkerEffect] {
        if !order.follows { assistedFence = order.lease.fence }
        let canServe = hello.capabilities.contains {
            $0.stage == order.stage && (order.model.isEmpty || $0.model == order.model)
        }
        let holdsTask = held.keys.contains { $0.task == order.lease.task }
        guard canServe, !holdsTask, held.count < Limits.runningTasksPerWorker else { return beatIfReady(now) }
        if order.follows {
            let followed = held.values.count { if case .following = $0.work { true } else { false } }
            guard !isDraining, followed < Limits.followedPerWorker else { return [] }
            held[order.lease] = Held(work: .following, step: 0, progressAt: now.milliseconds)
            return [.assist(order)]
        }
        guard freeSlots > 0 else { return beatIfReady(now) }
        held[order.lease] = Held(work: .assisting, step: 0, progressAt: now.milliseconds)
        return [.assist(order)] + beatIfReady(now)
    }

    mutating func lose(_ lease: Lease, reason: String) -> [WorkerEffect] {
        guard let task = held[lease] else { return [] }
        guard task.isRunning else {
            held[lease] = nil
            return []
        }
        guard !task.isStopping else { return [] }
        held[lease]?.work = .stopping
        held[lease]?.checkpoint = nil
        return [.cancel(lease, reason: reason)]
    }

    // MARK: Handing back

    mutating func beginDraining(_ reason: String) -> [WorkerEffect] {
        isDraining = true
        return held.sorted { $0.key.fence < $1.key.fence }.flatMap { lease, task in
            task.isAssistance ? lose(lease, reason: reason) : yield(lease, reason: reason)
        }
    }

    private mutating func yield(_ lease: Lease, reason: String) -> [WorkerEffect] {
        guard case .computing = held[lease]?.work else { return [] }
        held[lease]?.work = .yielding(reason)
        return [.yield(lease, reason: reason)]
    }

    /// The lease goes back once the broker would resume from the last step: a checkpoint that is not confirmed yet is
    /// repeated with every beat, and this after it.
    func handBack(_ lease: Lease) -> [WorkerEffect] {
        guard let task = held[lease], case .yielded = task.work, task.checkpoint == nil else { return [] }
        return sendIfReady(.refuse(Refuse(lease: lease, code: "yielded")))
    }
}
