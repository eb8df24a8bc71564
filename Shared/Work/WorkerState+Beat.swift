import Wire

// What the worker says, and when the clock makes it say so.
extension WorkerState {
    mutating func sayHello(_ now: Instant) -> [WorkerEffect] {
        guard !hasLeft else { return [] }
        phase = .helloSent
        lastHelloAt = now.milliseconds
        return [.send(.hello(hello), inReplyTo: 0)]
    }

    func sendIfReady(_ message: Message) -> [WorkerEffect] {
        phase == .ready ? [.send(message, inReplyTo: 0)] : []
    }

    mutating func beatIfReady(_ now: Instant) -> [WorkerEffect] {
        phase == .ready ? beat(now) : []
    }

    /// Everything the broker has yet to confirm, then the absolute state, so that a freed slot is announced after the
    /// result that freed it.
    mutating func beat(_ now: Instant) -> [WorkerEffect] {
        lastBeatAt = now.milliseconds
        let tasks = held.sorted { $0.key.fence < $1.key.fence }
        var effects: [WorkerEffect] = []
        for (lease, task) in tasks {
            if let checkpoint = task.checkpoint { effects.append(.send(.checkpoint(checkpoint), inReplyTo: 0)) }
            switch task.work {
            case .completed(let complete): effects.append(.send(.complete(complete), inReplyTo: 0))
            case .failed(let fail): effects.append(.send(.fail(fail), inReplyTo: 0))
            case .yielded: effects += handBack(lease)
            case .computing, .assisting, .following, .yielding, .stopping: break
            }
        }
        let running = tasks.filter { !$0.value.isStopping && !$0.value.isAssistance }.map { lease, task in
            RunningTask(
                task: lease.task, fence: lease.fence, step: task.step, totalSteps: task.totalSteps,
                millisecondsSinceProgress: UInt32(clamping: now.elapsed(since: task.progressAt)))
        }
        advertisedSlots = freeSlots
        let beat = Beat(
            freeSlots: advertisedSlots, running: running, storeBytes: storeBytes, fetched: fetched, warm: warm,
            previews: previews, assistedFence: assistedFence)
        return effects + [.send(.beat(beat), inReplyTo: 0)]
    }

    mutating func tick(_ now: Instant) -> [WorkerEffect] {
        var effects = checkIsolation(now)
        switch phase {
        case .disconnected: break
        case .helloSent:
            if now.elapsed(since: lastHelloAt) >= beatMilliseconds { effects += sayHello(now) }
        case .ready:
            if now.elapsed(since: lastBeatAt) >= beatMilliseconds { effects += beat(now) }
        }
        return effects
    }

    private mutating func checkIsolation(_ now: Instant) -> [WorkerEffect] {
        guard brokerEpoch > 0 else { return [] }
        let silence = now.elapsed(since: lastHeardAt)
        let patience = leaseMilliseconds * 2 / 3
        isIsolated = silence > patience
        guard silence > patience + leaseMilliseconds else { return [] }
        let computing = held.filter { $0.value.isRunning }.keys.sorted { $0.fence < $1.fence }
        return computing.flatMap { lose($0, reason: "isolated") }
    }

    mutating func leave() -> [WorkerEffect] {
        guard !hasLeft else { return [] }
        let leases = held.keys.sorted { $0.fence < $1.fence }
        var effects = leases.flatMap { lose($0, reason: "shutdown") }
        if phase == .ready { effects.append(.send(.goodbye, inReplyTo: 0)) }
        isDraining = true
        hasLeft = true
        phase = .disconnected
        return effects
    }
}
