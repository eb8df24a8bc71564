package import Wire

/// Which tasks find a slot among those that are free or about to be, when each may run on some workers only.
///
/// Tasks come in the order of their urgency. A task that finds the slots of its workers taken moves one that was placed
/// before it to another of that one's workers, so that nobody is left out whom another arrangement would serve
/// (augmenting paths; H. W. Kuhn, 1955).
package struct SlotMatching {
    private let slots: [SessionID: Int]
    /// The workers that each placed or refused task may run on, in the order of arrival.
    private var capable: [[SessionID]] = []
    private var placed: [SessionID: [Int]] = [:]

    /// How many slots each worker has to give.
    package init(_ slots: [SessionID: Int]) { self.slots = slots }

    /// Finds a slot for one more task: false when all those placed until now need every slot it could have.
    package mutating func place(among workers: [SessionID]) -> Bool {
        capable.append(workers)
        var visited: Set<SessionID> = []
        return place(capable.count - 1, &visited)
    }

    private mutating func place(_ task: Int, _ visited: inout Set<SessionID>) -> Bool {
        for session in capable[task] where slots[session, default: 0] > 0 && visited.insert(session).inserted {
            if placed[session, default: []].count < slots[session, default: 0] {
                placed[session, default: []].append(task)
                return true
            }
            for (position, other) in placed[session, default: []].enumerated() where place(other, &visited) {
                placed[session]?[position] = task
                return true
            }
        }
        return false
    }
}
