/// SplitMix64: the same numbers for the same seed on every machine.
package struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    package init(seed: UInt64) { state = seed &* 0x9e37_79b9_7f4a_7c15 &+ 1 }

    package mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `bound` − 1.
    mutating func below(_ bound: UInt64) -> UInt64 { next().multipliedFullWidth(by: bound).high }

    mutating func below(_ bound: Int) -> Int { Int(below(UInt64(bound))) }

    mutating func between(_ range: ClosedRange<UInt64>) -> UInt64 {
        range.lowerBound + below(range.upperBound - range.lowerBound + 1)
    }

    /// True `per` times in 10,000.
    mutating func chance(_ per: Int) -> Bool { per > 0 && below(10_000) < per }
}

/// What happens when: a binary heap by time, equal times in the order of arrival. The elements stay where they are;
/// only their numbers move.
struct EventQueue<Element> {
    private struct Key {
        var time: UInt64
        var order: UInt64
        var slot: Int
    }

    private var heap: [Key] = []
    private var slots: [Element?] = []
    private var free: [Int] = []
    private var pushed: UInt64 = 0

    var count: Int { heap.count }

    mutating func push(_ element: Element, at time: UInt64) {
        let slot: Int
        if let reused = free.popLast() {
            slot = reused
            slots[slot] = element
        } else {
            slot = slots.count
            slots.append(element)
        }
        heap.append(Key(time: time, order: pushed, slot: slot))
        pushed += 1
        var child = heap.count - 1
        let moving = heap[child]
        while child > 0 {
            let parent = (child - 1) / 2
            guard isBefore(moving, heap[parent]) else { break }
            heap[child] = heap[parent]
            child = parent
        }
        heap[child] = moving
    }

    mutating func pop() -> (time: UInt64, element: Element)? {
        guard let first = heap.first, let last = heap.popLast() else { return nil }
        if !heap.isEmpty {
            var parent = 0
            while true {
                var least = 2 * parent + 1
                guard least < heap.count else { break }
                if least + 1 < heap.count, isBefore(heap[least + 1], heap[least]) { least += 1 }
                guard isBefore(heap[least], last) else { break }
                heap[parent] = heap[least]
                parent = least
            }
            heap[parent] = last
        }
        guard let element = slots[first.slot].take() else { return nil }
        free.append(first.slot)
        return (first.time, element)
    }

    private func isBefore(_ left: Key, _ right: Key) -> Bool {
        left.time != right.time ? left.time < right.time : left.order < right.order
    }
}
