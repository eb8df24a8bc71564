import Wire

// Idle workers help others with a task. Nothing of it is on disk: a worker that helps tells of a slot less, and of one
// more when it does not help any longer.
extension BrokerState {
    /// Sends idle workers that could do the task themselves to its leader: as many as it asks for and as there are.
    ///
    /// Work that waits comes first: whoever could take a ready task has just got it.
    mutating func accept(
        _ request: AssistRequest, from session: SessionID, inReplyTo sequence: UInt64, now: Instant
    ) {
        let lease = request.lease
        guard isCurrent(lease, of: session), let task = records.task(of: lease), let leader = workers[session] else {
            send(.leaseLost(lease), to: session, inReplyTo: sequence)
            return
        }
        guard !request.follows else {
            let count: UInt32 = sendFollower(request, of: task, leader) ? 1 : 0
            send(.assistOffered(AssistOffer(lease: lease, count: count)), to: session, inReplyTo: sequence)
            return
        }
        dispatch(now)
        let wanted = min(Int(request.count), Limits.membersPerTask - 1)
        let chosen = task.isQuarantined ? [] : idleWorkers(for: task, besides: session).prefix(wanted)
        let order = AssistOrder(
            lease: lease, stage: task.specification.stage, model: task.specification.model,
            leader: leader.hello.worker, locations: leader.hello.dataLocations, secret: request.secret)
        for helper in chosen {
            workers[helper]?.sentAssists.append((lease.fence, now.milliseconds))
            assignments += 1
            workers[helper]?.lastAssignment = assignments
            send(.assist(order), to: helper)
        }
        send(.assistOffered(AssistOffer(lease: lease, count: UInt32(chosen.count))), to: session, inReplyTo: sequence)
    }

    /// Sends a worker that can do the task which takes this one's results, so that it takes them as they come. That costs
    /// it no slot; it is preferred when its task is ready, and whatever it has not done by then is done as ever.
    private mutating func sendFollower(_ request: AssistRequest, of task: TaskRecord, _ leader: Worker) -> Bool {
        let name = request.lease.task.name
        guard !task.isQuarantined, let job = records.jobs[request.lease.task.job],
            let next = job.tasks.first(where: { $0.producers.contains(name) }), !next.isQuarantined
        else { return false }
        let excluded = Set(next.excludedWorkers).union(next.crashedWorkers), isolated = isolatedSessions()
        var following: [SessionID: Int] = [:]
        for session in followers.values { following[session, default: 0] += 1 }
        let able = workers.filter { session, worker in
            worker.isReachable && !worker.isDraining && !isolated.contains(session)
                && worker.hello.serves(next.specification) && !excluded.contains(worker.hello.worker)
                && following[session, default: 0] < Limits.followedPerWorker
        }
        let ranked = able.map { session, worker in
            (session: session, rank: (following[session, default: 0], worker.lastAssignment, worker.hello.worker))
        }
        let best = ranked.min { $0.rank != $1.rank ? $0.rank < $1.rank : inOrder($0.session, $1.session) }
        guard let follower = best?.session else { return false }
        followers[TaskID(job: job.job, name: next.specification.name)] = follower
        let order = AssistOrder(
            lease: request.lease, stage: next.specification.stage, model: next.specification.model,
            leader: leader.hello.worker, locations: leader.hello.dataLocations, secret: request.secret, follows: true,
            parameters: next.specification.parameters)
        send(.assist(order), to: follower)
        return true
    }

    /// Of the same arithmetic first, then the idlest, then whose turn it is. None that the task has taken down before.
    private func idleWorkers(for task: TaskRecord, besides leader: SessionID) -> [SessionID] {
        let excluded = Set(task.excludedWorkers).union(task.crashedWorkers), numerics = workers[leader]?.hello.numerics
        let able = freeSlots().compactMap { session, slots -> (session: SessionID, rank: (Int, Int, UInt64, String))? in
            guard session != leader, let worker = workers[session], worker.hello.serves(task.specification),
                !excluded.contains(worker.hello.worker)
            else { return nil }
            return (
                session,
                (
                    worker.hello.numerics == numerics ? 0 : 1, Int(worker.hello.slots) - slots,
                    worker.lastAssignment, worker.hello.worker
                )
            )
        }
        return able.sorted { $0.rank != $1.rank ? $0.rank < $1.rank : inOrder($0.session, $1.session) }.map(\.session)
    }
}
