// SPDX-License-Identifier: GPL-2.0-only
/*
 * QCOW2 on-disk format: header extensions, and the names of features that one
 * of them has. Pure functions.
 */
#include "format.h"

/* A row of the feature name table. */
struct feature_row {
	u8 type;
	u8 bit;
	char name[QCOW2_FEATURE_NAME];
} __packed;

/* Names of the specification: incompatible, compatible, autoclear. */
static const char * const feature_names[3][5] = {
	{ "dirty bit", "corrupt bit", "external data file",
	  "compression type", "extended L2 entries" },
	{ "lazy refcounts" },
	{ "bitmaps", "raw external data" },
};

/* Where the extensions end: the backing file name, or the cluster. */
static u64 extensions_end(const struct qcow2_geometry *g, size_t len)
{
	u64 end = g->backing_offset ? g->backing_offset : qcow2_cluster_size(g);

	return end < len ? end : len;
}

/**
 * qcow2_extension_next() - step to the next header extension
 * @buf: the header area
 * @len: bytes in @buf
 * @g: the header
 * @ext: where to go on from; all zero for the first one
 *
 * Source: specification, "Header extensions". Return: 1 with @ext filled in,
 * 0 after the last one, -EINVAL for one that does not fit, of which @ext has
 * type and length.
 */
int qcow2_extension_next(const void *buf, size_t len,
			 const struct qcow2_geometry *g,
			 struct qcow2_extension *ext)
{
	u64 end = extensions_end(g, len);
	u64 pos = ext->next ? ext->next : g->header_length;
	__be32 head[2];

	if (pos + sizeof(head) > end)
		return 0;
	memcpy(head, (const u8 *)buf + pos, sizeof(head));
	ext->type = be32_to_cpu(head[0]);
	ext->length = be32_to_cpu(head[1]);
	ext->offset = pos + sizeof(head);
	if (ext->type == QCOW2_EXT_END)
		return 0;
	if (ext->length > end - ext->offset)
		return -EINVAL;
	ext->next = ext->offset + (((u64)ext->length + 7) & ~7ULL);
	return 1;
}

/**
 * qcow2_extension_store() - write what comes before the data of an extension
 * @buf: QCOW2_EXTENSION_HEAD bytes
 * @type: its type
 * @length: bytes of its data
 */
void qcow2_extension_store(void *buf, u32 type, u32 length)
{
	__be32 head[2] = { cpu_to_be32(type), cpu_to_be32(length) };

	memcpy(buf, head, sizeof(head));
}

/**
 * qcow2_extensions_check() - look for faults behind the fixed header
 * @buf: the header area
 * @len: bytes in @buf
 * @g: the header
 * @bad: filled in with the extension that QCOW2_FAULT_EXTENSION is about
 *
 * Return: faults, as bits; extensions are not looked for if the backing file
 * name, which they end at, is out of place.
 */
u32 qcow2_extensions_check(const void *buf, size_t len,
			   const struct qcow2_geometry *g,
			   struct qcow2_extension *bad)
{
	u64 end = g->backing_offset;
	u32 faults = 0;
	int r;

	if (end && (end > qcow2_cluster_size(g) || end < g->header_length))
		return QCOW2_FAULT_BACKING_PLACE;
	if (end && (g->backing_size > QCOW2_MAX_BACKING_NAME ||
		    g->backing_size > qcow2_cluster_size(g) - end))
		faults |= QCOW2_FAULT_BACKING_LENGTH;
	memset(bad, 0, sizeof(*bad));
	do {
		r = qcow2_extension_next(buf, len, g, bad);
	} while (r > 0);
	return r < 0 ? faults | QCOW2_FAULT_EXTENSION : faults;
}

/**
 * qcow2_feature_name_in() - a name that an image gives to a feature bit
 * @table: data of the feature name table extension
 * @len: bytes in @table
 * @type: 0 incompatible, 1 compatible, 2 autoclear
 * @bit: bit number
 * @name: filled in and terminated; hostile text
 *
 * Return: whether the table has a name for it.
 */
bool qcow2_feature_name_in(const void *table, size_t len, unsigned int type,
			   unsigned int bit, char name[QCOW2_FEATURE_NAME + 1])
{
	struct feature_row row;
	size_t i;

	for (i = 0; i + sizeof(row) <= len; i += sizeof(row)) {
		memcpy(&row, (const u8 *)table + i, sizeof(row));
		if (row.type != type || row.bit != bit || !row.name[0])
			continue;
		memcpy(name, row.name, sizeof(row.name));
		name[sizeof(row.name)] = '\0';
		return true;
	}
	return false;
}

/**
 * qcow2_feature_name_known() - the name that the specification gives to a bit
 * @type: 0 incompatible, 1 compatible, 2 autoclear
 * @bit: bit number
 *
 * Return: the name, or NULL if it knows none.
 */
const char *qcow2_feature_name_known(unsigned int type, unsigned int bit)
{
	if (type >= sizeof(feature_names) / sizeof(*feature_names) ||
	    bit >= sizeof(feature_names[0]) / sizeof(*feature_names[0]))
		return NULL;
	return feature_names[type][bit];
}

/**
 * qcow2_feature_name() - the name of a feature bit
 * @buf: the header area
 * @len: bytes in @buf
 * @g: the parsed header
 * @type: 0 incompatible, 1 compatible, 2 autoclear
 * @bit: bit number
 * @name: filled in with a terminated, printable string
 * @name_size: bytes at @name
 *
 * Takes the image's own feature name table first, then the names that the
 * specification gives. Return: 0, or -ENOENT if neither knows it (@name is
 * then "unknown").
 */
int qcow2_feature_name(const void *buf, size_t len,
		       const struct qcow2_geometry *g, unsigned int type,
		       unsigned int bit, char *name, size_t name_size)
{
	struct qcow2_extension ext = { .next = 0 };
	const char *known = qcow2_feature_name_known(type, bit);
	char own[QCOW2_FEATURE_NAME + 1];
	char *c;

	while (qcow2_extension_next(buf, len, g, &ext) > 0) {
		if (ext.type != QCOW2_EXT_FEATURE_TABLE ||
		    !qcow2_feature_name_in((const u8 *)buf + ext.offset,
					   ext.length, type, bit, own))
			continue;
		for (c = own; *c; c++)
			if (*c < ' ' || *c > '~')
				*c = '?';
		snprintf(name, name_size, "%s", own);
		return 0;
	}
	snprintf(name, name_size, "%s", known ? known : "unknown");
	return known ? 0 : -ENOENT;
}

/* What there is of a text, as far as it goes. */
static void extensions_text(char *text, size_t size, const void *buf, size_t len,
			    u64 at, u64 n)
{
	if (at > len)
		n = 0;
	else if (n > len - at)
		n = len - at;
	if (n > size - 1)
		n = size - 1;
	if (n)
		memcpy(text, (const u8 *)buf + at, n);
	text[n] = '\0';
}

/**
 * qcow2_backing_parse() - what a header says of the backing file
 * @buf: the header area
 * @len: bytes in @buf
 * @g: the parsed header
 * @b: filled in; empty if there is none
 */
void qcow2_backing_parse(const void *buf, size_t len,
			 const struct qcow2_geometry *g,
			 struct qcow2_backing *b)
{
	struct qcow2_extension ext = { 0 };

	b->format[0] = '\0';
	while (qcow2_extension_next(buf, len, g, &ext) > 0)
		if (ext.type == QCOW2_EXT_BACKING_FORMAT)
			extensions_text(b->format, sizeof(b->format), buf, len,
					ext.offset, ext.length);
	extensions_text(b->name, sizeof(b->name), buf, len, g->backing_offset,
			g->backing_offset ? g->backing_size : 0);
}

/**
 * qcow2_data_file_name() - the name that a header has for its data file
 * @buf: the header area
 * @len: bytes in @buf
 * @g: the parsed header
 * @name: filled in and terminated, cut if need be; hostile text
 * @name_size: bytes at @name
 */
void qcow2_data_file_name(const void *buf, size_t len,
			  const struct qcow2_geometry *g, char *name,
			  size_t name_size)
{
	struct qcow2_extension ext = { 0 };

	name[0] = '\0';
	while (qcow2_extension_next(buf, len, g, &ext) > 0)
		if (ext.type == QCOW2_EXT_DATA_FILE)
			extensions_text(name, name_size, buf, len, ext.offset,
					ext.length);
}

/**
 * qcow2_crypto_parse() - read the full disk encryption header pointer
 * @data: data of the extension
 * @len: bytes in @data
 * @offset: set to where the encryption header lies
 * @length: set to its length in bytes
 *
 * Return: 0, or -EINVAL if the extension is too short.
 */
int qcow2_crypto_parse(const void *data, size_t len, u64 *offset, u64 *length)
{
	__be64 raw[2];

	if (len < sizeof(raw))
		return -EINVAL;
	memcpy(raw, data, sizeof(raw));
	*offset = be64_to_cpu(raw[0]);
	*length = be64_to_cpu(raw[1]);
	return 0;
}
