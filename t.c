#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <stdint.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <linux/kvm.h>
#include <time.h>
extern char blob[],blob_end[];
static double now(){struct timespec t;clock_gettime(CLOCK_MONOTONIC,&t);return t.tv_sec+t.tv_nsec*1e-9;}
int main(int c,char**v){ uint64_t base=strtoull(v[1],0,0);
int k=open("/dev/kvm",O_RDWR),vm=ioctl(k,KVM_CREATE_VM,0);
char*m=mmap(0,64<<20,3,MAP_PRIVATE|MAP_ANONYMOUS,-1,0);
struct kvm_userspace_memory_region r={.memory_size=64<<20,.userspace_addr=(uint64_t)m};ioctl(vm,KVM_SET_USER_MEMORY_REGION,&r);
int vc=ioctl(vm,KVM_CREATE_VCPU,0);struct kvm_run*run=mmap(0,0x3000,3,MAP_SHARED,vc,0);
static struct{struct kvm_cpuid2 c;struct kvm_cpuid_entry2 e[200];}cp={.c.nent=200};ioctl(k,KVM_GET_SUPPORTED_CPUID,&cp);ioctl(vc,KVM_SET_CPUID2,&cp);
uint64_t*p4=(void*)(m+0x1000),*p3=(void*)(m+0x2000),*p2=(void*)(m+0x3000);
p4[(base>>39)&511]=0x2007;p3[(base>>30)&511]=0x3007;for(int i=0;i<32;i++)p2[i]=(uint64_t)i<<21|0x87;
uint64_t*gdt=(void*)(m+0x4000);uint64_t tss=base+0x5000;
gdt[1]=0x00af9b000000ffff;gdt[2]=0x00cf93000000ffff;gdt[4]=0x00cff3000000ffff;gdt[5]=0x00affb000000ffff;
gdt[6]=(tss&0xffffff)<<16|0x67|0x8bull<<40|((tss>>24&0xff)<<56);gdt[7]=tss>>32;
*(uint64_t*)(m+0x5004)=base+0x7000;
uint64_t*idt=(void*)(m+0x6000);for(int i=0;i<256;i++){uint64_t h=base+0x10000+(i==0x80?0x100:0x200);idt[2*i]=(h&0xffff)|8ull<<16|0xee00ull<<32|(h>>16&0xffff)<<48;idt[2*i+1]=h>>32;}
memcpy(m+0x10000,blob,blob_end-blob);
struct kvm_sregs s;ioctl(vc,KVM_GET_SREGS,&s);s.cr3=0x1000;s.cr4=0x20;s.cr0=0x80010033|(1<<16);s.efer=0xd00;
s.gdt.base=base+0x4000;s.gdt.limit=0x3f;s.idt.base=base+0x6000;s.idt.limit=0xfff;
s.tr.base=tss;s.tr.limit=0x67;s.tr.type=11;s.tr.selector=0x30;s.tr.present=1;s.tr.s=0;
s.cs=(struct kvm_segment){.limit=~0u,.selector=8,.type=11,.present=1,.s=1,.l=1,.g=1};
s.ss=s.ds=s.es=(struct kvm_segment){.limit=~0u,.selector=16,.type=3,.present=1,.s=1,.db=1,.g=1};
if(ioctl(vc,KVM_SET_SREGS,&s))perror("sregs");
struct kvm_regs g={.rip=base+0x10000,.rsp=base+0x7000,.rdi=base,.rflags=2};ioctl(vc,KVM_SET_REGS,&g);
double t=now();
for(int i=0;i<6;i++){int rc=ioctl(vc,KVM_RUN,0);ioctl(vc,KVM_GET_REGS,&g);ioctl(vc,KVM_GET_SREGS,&s);
printf("%.3f rc %d reason %d rip %llx val %x cr2 %llx cs %x\n",now()-t,rc,run->exit_reason,g.rip,run->exit_reason==2?*((unsigned char*)run+run->io.data_offset):0,s.cr2,s.cs.selector);
if(run->exit_reason!=2){if(run->exit_reason==17){printf("suberr %d ndata %d\n",run->internal.suberror,run->internal.ndata);}break;}if(*((unsigned char*)run+run->io.data_offset)==4)break;}
}
