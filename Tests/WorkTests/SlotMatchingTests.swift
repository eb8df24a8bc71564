import Testing
import Wire
import Work

@Suite("Which tasks find a slot")
struct SlotMatchingTests {
    private let one = session(1), two = session(2), three = session(3)

    @Test("a task moves another that could also run elsewhere")
    func moves() {
        var slots = SlotMatching([one: 1, two: 1])
        expect(&slots, [one, two], true)
        expect(&slots, [one], true)
        expect(&slots, [one, two], false)
    }

    @Test("tasks move in a chain, and one that finds no place leaves the others where they are")
    func chain() {
        var slots = SlotMatching([one: 1, two: 1, three: 1])
        expect(&slots, [one, two], true)
        expect(&slots, [two, three], true)
        expect(&slots, [one], true)
        expect(&slots, [one, two], false)
        expect(&slots, [], false)
        expect(&slots, [session(9)], false)
    }

    @Test("a worker is given as many tasks as it has slots")
    func counts() {
        var slots = SlotMatching([one: 2, two: 0])
        expect(&slots, [one, two], true)
        expect(&slots, [one], true)
        expect(&slots, [two, one], false)
    }

    @Test("as many tasks are placed as any arrangement places")
    func best() {
        var random = SystemRandomNumberGenerator()
        for _ in 0..<300 {
            let workers = (1...4).map { session($0) }
            let slots = Dictionary(uniqueKeysWithValues: workers.map { ($0, Int.random(in: 0...2, using: &random)) })
            let tasks = (0..<6).map { _ in workers.filter { _ in Bool.random(using: &random) } }
            var matching = SlotMatching(slots)
            var placed = 0
            for task in tasks where matching.place(among: task) { placed += 1 }
            #expect(placed == most(tasks[...], slots), "\(slots) \(tasks)")
        }
    }

    private func expect(_ slots: inout SlotMatching, _ workers: [SessionID], _ isPlaced: Bool) {
        let found = slots.place(among: workers)
        #expect(found == isPlaced, "\(workers)")
    }

    /// By trying everything.
    private func most(_ tasks: ArraySlice<[SessionID]>, _ slots: [SessionID: Int]) -> Int {
        guard let task = tasks.first else { return 0 }
        var best = most(tasks.dropFirst(), slots)
        for worker in task where slots[worker, default: 0] > 0 {
            var left = slots
            left[worker, default: 0] -= 1
            best = max(best, 1 + most(tasks.dropFirst(), left))
        }
        return best
    }
}
