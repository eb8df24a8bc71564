/// Which CPUs share a memory node and which share a core.
package struct CPUTopology: Sendable, Hashable {
    /// CPUs of each memory node that has any, by the node's number. One node holds everything where the system names none.
    package let nodes: [CPUList]
    /// CPUs of each core: hardware threads that share its arithmetic.
    package let cores: [CPUList]

    package init(nodes: [CPUList], cores: [CPUList]) {
        self.nodes = nodes
        self.cores = cores
    }

    /// Reads `/sys/devices/system` for `cpus`.
    ///
    /// - Parameter read: the content of a file, nil where there is none.
    package init(of cpus: CPUList, read: (String) -> String?) {
        func list(_ path: String) -> CPUList? {
            guard let text = read("/sys/devices/system/" + path) else { return nil }
            return try? CPUList(parsing: text)
        }
        // A node of memory alone has an empty list, which is no list.
        let nodes = (list("node/online")?.numbers ?? []).compactMap { list("node/node\($0)/cpulist") }
            .map { $0.intersection(cpus) }.filter { !$0.isEmpty }
        // CPUs that no node names are as good as those of the first one.
        let rest = Set(cpus.numbers).subtracting(nodes.flatMap(\.numbers))
        self.nodes = [CPUList((nodes.first?.numbers ?? []) + rest)] + nodes.dropFirst()
        var cores: [CPUList] = [], seen: Set<Int> = []
        for cpu in cpus.numbers where !seen.contains(cpu) {
            let siblings =
                list("cpu/cpu\(cpu)/topology/core_cpus_list") ?? list("cpu/cpu\(cpu)/topology/thread_siblings_list")
            let core = CPUList((siblings?.intersection(cpus).numbers ?? []).filter { !seen.contains($0) } + [cpu])
            seen.formUnion(core.numbers)
            cores.append(core)
        }
        self.cores = cores
    }

    /// The topology of `cpus` on this machine.
    package static func current(of cpus: CPUList) -> CPUTopology {
        CPUTopology(of: cpus, read: SystemFile.read)
    }

    /// Cuts the CPUs into `count` sets of nearly the same number of whole cores, neighbours in one node as far as the
    /// numbers allow. With more sets than cores hardware threads are divided, with more sets than CPUs sets repeat.
    package func divided(into count: Int) -> [CPUList] {
        let ordered = nodes.flatMap { node in cores.filter { node.numbers.contains($0.numbers[0]) } }
        let units = count <= ordered.count ? ordered : ordered.flatMap { $0.numbers.map { CPUList([$0]) } }
        return (0..<count).map { index in
            guard count <= units.count else { return units[index % units.count] }
            return CPUList(units[index * units.count / count..<(index + 1) * units.count / count].flatMap(\.numbers))
        }
    }
}
