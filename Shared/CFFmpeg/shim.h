/* FFmpeg for Swift: the headers in use, and functions in place of macros that Swift does not import. */
#ifndef ZOETROPE_CFFMPEG_SHIM_H
#define ZOETROPE_CFFMPEG_SHIM_H

#include <errno.h>
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/avutil.h>
#include <libavutil/cpu.h>
#include <libavutil/dict.h>
#include <libavutil/error.h>
#include <libavutil/imgutils.h>
#include <libavutil/log.h>
#include <libavutil/opt.h>
#include <libavutil/pixdesc.h>
#include <libswscale/swscale.h>
#include <stdarg.h>

static inline int zt_error_end_of_file(void) { return AVERROR_EOF; }
static inline int zt_error_try_again(void) { return AVERROR(EAGAIN); }
static inline int64_t zt_no_timestamp(void) { return AV_NOPTS_VALUE; }
static inline int zt_codec_flag_global_header(void) { return AV_CODEC_FLAG_GLOBAL_HEADER; }
static inline int zt_codec_flag_fixed_quality(void) { return AV_CODEC_FLAG_QSCALE; }
static inline int zt_quality_to_lambda(int quality) { return quality * FF_QP2LAMBDA; }
static inline int zt_log_level_error(void) { return AV_LOG_ERROR; }

/* In the stream's time base; 0 when the file does not tell. */
static inline int64_t zt_frame_duration(const AVFrame *frame) {
#if LIBAVUTIL_VERSION_MAJOR >= 58
    return frame->duration;
#else
    return frame->pkt_duration;
#endif
}

/* Where the stream says how its pictures are to be turned: nine numbers, row by row; NULL when it does not. */
static inline const int32_t *zt_display_matrix(const AVStream *stream) {
#if LIBAVFORMAT_VERSION_MAJOR >= 61
    const AVPacketSideData *data = av_packet_side_data_get(
        stream->codecpar->coded_side_data, stream->codecpar->nb_coded_side_data, AV_PKT_DATA_DISPLAYMATRIX);
    return data && data->size >= 9 * sizeof(int32_t) ? (const int32_t *)data->data : NULL;
#else
    size_t size = 0;
    const uint8_t *data = av_stream_get_side_data(stream, AV_PKT_DATA_DISPLAYMATRIX, &size);
    return data && size >= 9 * sizeof(int32_t) ? (const int32_t *)data : NULL;
#endif
}

#endif
