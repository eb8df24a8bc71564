package import Failure
package import Runtime

/// What `--cpus` of `serve` and `generate` gives the workers.
package enum CPUChoice: Sendable, Hashable {
    /// Every worker runs on all of the list. Stages of one job take turns, so sharing costs them nothing.
    case list(CPUList)
    /// The workers of one stage, which do run at the same time, divide the machine's usable CPUs.
    case divided(CPUTopology)

    /// Reads a list, or `auto`; nil for no text.
    ///
    /// - Throws: `cpus_invalid`.
    package init?(_ text: String?, usable: UsableCPUs) throws(Failure) {
        guard let text else { return nil }
        self = text == "auto" ? .divided(.current(of: usable.cpus)) : .list(try usable.chosen(text))
    }

    /// The CPUs of worker `index` (from 0) of a stage that has `count`.
    package func share(of index: Int, among count: Int) -> CPUList {
        switch self {
        case .list(let cpus): cpus
        case .divided(let topology): topology.divided(into: count)[index]
        }
    }
}
