/* image_blob.S: the guest image as data (the Makefile builds it and gives its name). */
    .section .rodata
    .balign 4096
    .global image_blob, image_blob_end
image_blob:
    .incbin NB_IMAGE
image_blob_end:
    .section .note.GNU-stack, "", @progbits
