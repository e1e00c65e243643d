/* segments.h: selectors and stacks of the image, for C and assembler. */
#ifndef NB_GUEST_IMAGE_SEGMENTS_H
#define NB_GUEST_IMAGE_SEGMENTS_H

#define KERNEL_CODE 0x08
#define KERNEL_DATA 0x10
#define USER_CODE (0x18 | 3)
#define USER_DATA (0x20 | 3)
#define TASK_STATE 0x28

#define KERNEL_STACK 32768 /* bytes */

#endif
