/// Which parts of a memory are taken: the lowest hole that is large enough is given out, so that what is used stays
/// near the front.
package struct ExtentList: Sendable {
    /// Extents begin and end at multiples of this, a page.
    package static let alignment = 4096

    /// The holes, rising, none next to another.
    package private(set) var free: [Range<Int>]
    /// The end of the highest extent that was ever taken.
    package private(set) var highWater: Int

    /// - Parameter range: what there is to give out, page by page.
    package init(_ range: Range<Int>) {
        free = [range]
        highWater = range.lowerBound
    }

    /// Where an extent of `bytes` would lie; nil when no hole is large enough.
    package func fit(_ bytes: Int) -> Range<Int>? {
        let pages = (max(bytes, 1) + ExtentList.alignment - 1) / ExtentList.alignment
        let (needed, overflow) = pages.multipliedReportingOverflow(by: ExtentList.alignment)
        guard !overflow, let hole = free.first(where: { $0.count >= needed }) else { return nil }
        return hole.lowerBound..<(hole.lowerBound + needed)
    }

    /// Takes an extent that `fit` has found.
    package mutating func take(_ extent: Range<Int>) {
        guard let index = free.firstIndex(where: { $0.lowerBound == extent.lowerBound }),
            free[index].upperBound >= extent.upperBound
        else { preconditionFailure("extent \(extent) is not free") }
        let rest = extent.upperBound..<free[index].upperBound
        if rest.isEmpty { free.remove(at: index) } else { free[index] = rest }
        highWater = max(highWater, extent.upperBound)
    }

    /// Gives back an extent that was taken.
    package mutating func give(_ extent: Range<Int>) {
        var index = free.firstIndex { $0.lowerBound >= extent.upperBound } ?? free.endIndex
        var merged = extent
        if index < free.endIndex, free[index].lowerBound == merged.upperBound {
            merged = merged.lowerBound..<free.remove(at: index).upperBound
        }
        if index > free.startIndex, free[index - 1].upperBound == merged.lowerBound {
            index -= 1
            merged = free.remove(at: index).lowerBound..<merged.upperBound
        }
        free.insert(merged, at: index)
    }
}
